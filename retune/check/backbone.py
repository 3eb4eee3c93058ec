"""All checks of a backbone: what the feature store and the strategies rely on, shown on a few made-up pictures."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from PIL import Image

from retune.backbones.base import MEANINGS, Backbone
from retune.check.checks import Check, ContractReport, Plugin, checked, require
from retune.check.world import changed, snapshot
from retune.progress import Progress

LIMIT: Final = 120.0
"""Seconds that a check may take: a large model is read anew for some of them."""
TEXTS: Final = (
    "Pleural effusion.",
    "No pleural effusion.",
    "There is an enlarged heart, and no fracture.",
    "x",
)
SIZES: Final = ((300, 240), (240, 300), (64, 64), (1000, 37))


def pictures() -> list[Image.Image]:
    """Grey noise of several shapes."""
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 256, size[::-1], dtype=np.uint8)) for size in SIZES]


@dataclass(frozen=True)
class Encoder(Plugin[Backbone]):
    """A backbone to check."""

    def made(self) -> Backbone:
        """A new one, on the processor."""
        backbone = super().made()
        backbone.device = "cpu"
        return backbone

    def pixels(self, backbone: Backbone) -> torch.Tensor:
        """The pictures as it wants them, (4, S, S)."""
        return torch.stack([backbone.preprocess(picture) for picture in pictures()])

    def able(self, *capabilities: str) -> bool:
        """Whether it declares all of these."""
        return set(capabilities) <= self.made().capabilities


def encodes(encoder: Encoder) -> None:
    """Pictures of any shape become uint8 (S, S), and these float32 (B, d) on the processor, finite, none of length 0."""
    backbone = encoder.made()
    side, dim = backbone.card.image_size, backbone.card.dim
    for picture in pictures():
        one = backbone.preprocess(picture)
        good = one.dtype == torch.uint8 and tuple(one.shape) == (side, side)
        told = (
            f"a picture of {picture.size} becomes {one.dtype} {tuple(one.shape)}, not uint8 ({side}, {side})"
        )
        require(good, told)
    _require_vectors(backbone.encode_images(encoder.pixels(backbone)), len(SIZES), dim, "encode_images")


def says_what_it_is(encoder: Encoder) -> None:
    """It has a name, a docstring, a source, a licence, pre-training data, and capabilities that there are."""
    backbone, cls = encoder.made(), encoder.cls
    card = backbone.card
    require(isinstance(getattr(backbone, "name", None), str) and bool(backbone.name), "it has no name")
    require(bool(inspect.getdoc(inspect.getmodule(cls)) or cls.__doc__), "no docstring says what it is")
    for fact in ("source", "licence"):
        require(bool(getattr(card, fact)), f"its card lacks {fact}")
    odd = sorted(set(backbone.capabilities) - set(MEANINGS))
    require(not odd, f"capabilities that there are not: {', '.join(odd)}; there are {', '.join(MEANINGS)}")
    whole = isinstance(backbone.parameters, int) and backbone.parameters >= 0
    require(whole, f"parameters gives {backbone.parameters!r}, not a whole number")


def same_picture_same_bits(encoder: Encoder) -> None:
    """A picture encoded twice, by one backbone and by another like it, gives equal bits."""
    one, other = encoder.made(), encoder.made()
    pixels = encoder.pixels(one)
    found = one.encode_images(pixels)
    require(torch.equal(one.encode_images(pixels), found), "encoded twice, a picture has two vectors")
    require(torch.equal(other.encode_images(pixels), found), "another one like it gives other vectors")
    if encoder.able("texts"):
        same = torch.equal(one.encode_texts(TEXTS), other.encode_texts(TEXTS))
        require(same, "another one like it gives texts other vectors")


def batch_size_does_not_matter(encoder: Encoder) -> None:
    """A picture, and a text, has the same vector alone, among others, and in another order."""
    backbone = encoder.made()
    pixels = encoder.pixels(backbone)
    _require_alone("picture", backbone.encode_images, pixels)
    if encoder.able("texts"):
        _require_alone("text", lambda texts: backbone.encode_texts(list(texts)), TEXTS)
    if encoder.able("tokens"):
        _require_alone("picture's patches", backbone.encode_tokens, pixels)


def pictures_are_told_apart(encoder: Encoder) -> None:
    """Different pictures, and different texts, have different vectors."""
    backbone = encoder.made()
    vectors = {"pictures": backbone.encode_images(encoder.pixels(backbone))}
    if encoder.able("texts"):
        vectors["texts"] = backbone.encode_texts(TEXTS)
    for what, found in vectors.items():
        require(len(torch.unique(found, dim=0)) == len(found), f"different {what} have one vector")


def texts_share_the_space(encoder: Encoder) -> None:
    """Where it declares texts they are float32 (P, d_text), and as wide as pictures where the space is joint."""
    if not encoder.able("texts"):
        require(not encoder.able("joint"), "it declares joint, and no texts")
        return
    backbone = encoder.made()
    wide = backbone.card.text_dim or backbone.card.dim
    joint = not encoder.able("joint") or wide == backbone.card.dim
    require(joint, f"it declares joint; pictures have {backbone.card.dim} numbers and texts {wide}")
    _require_vectors(backbone.encode_texts(TEXTS), len(TEXTS), wide, "encode_texts")


def keeps_what_it_declares(encoder: Encoder) -> None:
    """Tokens, a text path and a trainable tower, where declared, are what encode_images and encode_texts give."""
    backbone = encoder.made()
    card, pixels = backbone.card, encoder.pixels(backbone)
    if encoder.able("tokens"):
        tokens, (words, mask) = backbone.encode_tokens(pixels), backbone.encode_words(TEXTS)
        good = tokens.ndim == 3 and len(tokens) == len(pixels) and tokens.shape[2] == card.token_dim
        require(good, f"encode_tokens gave {tuple(tokens.shape)}, not ({len(pixels)}, T, {card.token_dim})")
        fits = words.ndim == 3 and words.shape[2] == card.text_token_dim and mask.shape == words.shape[:2]
        require(
            fits, f"encode_words gave {tuple(words.shape)} and {tuple(mask.shape)}, not (P, L, w) and (P, L)"
        )
    if encoder.able("text-gradients"):
        path = backbone.text_path()
        words, mask = path.embed(TEXTS)
        words = words.detach().requires_grad_()
        found = path.encode(words, mask)
        _require_close(found.detach(), backbone.encode_texts(TEXTS), "text_path", "encode_texts")
        found.sum().backward()
        require(words.grad is not None and bool(words.grad.any()), "text_path gives no gradient of the words")
    if encoder.able("trainable-tower"):
        tower, before = backbone.image_tower().eval(), backbone.encode_images(pixels)
        require(any(True for _ in tower.parameters()), "image_tower has no parameters")
        with torch.no_grad():
            _require_close(tower(pixels), before, "image_tower", "encode_images")
            for weight in tower.parameters():
                weight.zero_()
        same = torch.equal(backbone.encode_images(pixels), before)
        require(same, "image_tower is no copy: training it changes what encode_images gives")


def fingerprint_is_of_the_weights(encoder: Encoder) -> None:
    """Its fingerprint is a SHA-256, the same of two like it, and another once weights change: features are kept by it."""
    with _files_opened() as opened:
        backbone = encoder.made()
        pixels = encoder.pixels(backbone)
        before = backbone.encode_images(pixels)
        for weight in _tensors(vars(backbone)):
            with torch.no_grad(), torch.inference_mode():
                weight.mul_(1.5).add_(0.25)
        after, found = backbone.encode_images(pixels), backbone.fingerprint
    plain = encoder.made().fingerprint
    require(
        bool(re.fullmatch(r"[0-9a-f]{64}", plain)), f"fingerprint {plain!r} is no SHA-256 of 64 hex digits"
    )
    require(encoder.made().fingerprint == plain, "two like it have two fingerprints")
    # Where weights come of a file, it may be the file's, which nobody changes here.
    told = bool(opened) or torch.equal(before, after) or found != plain
    require(
        told,
        "other weights give other vectors under the same fingerprint: old features would be taken for theirs",
    )


def changes_nothing_global(encoder: Encoder) -> None:
    """Random generators, threads, working directory, environment and the like stay."""
    backbone = encoder.made()
    texts, pixels = encoder.able("texts"), encoder.pixels(backbone)
    # Reading weights may draw random ones first.
    backbone.encode_images(pixels[:1])
    before = snapshot()
    backbone.encode_images(pixels)
    if texts:
        backbone.encode_texts(TEXTS)
    found = changed(before)
    require(not found, f"changed: {', '.join(found)}")


CHECKS: Final = tuple(
    Check[Encoder](demand)
    for demand in (
        encodes, says_what_it_is, same_picture_same_bits, batch_size_does_not_matter, pictures_are_told_apart,
        texts_share_the_space, keeps_what_it_declares, fingerprint_is_of_the_weights, changes_nothing_global,
    )
)  # fmt: skip


def check_backbone(
    backbone: str | type[Backbone] | Backbone,
    settings: Mapping[str, Any] | None = None,
    *,
    limit: float = LIMIT,
    progress: Progress | None = None,
) -> ContractReport:
    """See whether a backbone keeps the contract, on a few made-up pictures, on the processor.

    Args:
        backbone: Name of a backbone, a Python file, a class, or an instance.
        settings: Others than the default ones; values may be text.
        limit: Seconds that a check may take.
        progress: Called with what is done, how much of it and how much there is to do.

    Raises:
        UserError: If there is no such backbone or setting, or it cannot be imported.
    """
    return checked("backbones", backbone, Encoder, CHECKS, settings=settings, limit=limit, progress=progress)


def _require_vectors(found: torch.Tensor, n: int, dim: int, what: str) -> None:
    good = found.dtype == torch.float32 and tuple(found.shape) == (n, dim) and found.device.type == "cpu"
    told = (
        f"{what} gave {found.dtype} {tuple(found.shape)} on {found.device}, not float32 ({n}, {dim}) on cpu"
    )
    require(good, told)
    require(bool(found.isfinite().all()), f"NaN or infinity in what {what} gave")
    require(
        bool((found.norm(dim=1) > 0).all()), f"{what} gave a vector of length 0, of which there is no cosine"
    )


def _require_close(found: torch.Tensor, wanted: torch.Tensor, what: str, of: str) -> None:
    like = found.shape == wanted.shape and bool(_close(found, wanted))
    require(like, f"{what} gives other vectors than {of}")


def _close(found: torch.Tensor, wanted: torch.Tensor) -> bool:
    # The last bits of a product depend on how many rows it has.
    return bool((found - wanted).abs().max() <= 1e-4 * wanted.abs().max() + 1e-6)


def _require_alone(what: str, encode: Any, items: Any) -> None:
    together = encode(items)
    alone = torch.cat([encode(items[i : i + 1]) for i in range(len(items))])
    require(_close(alone, together), f"a {what} has another vector alone than among others")
    turned = encode(items.flip(0) if isinstance(items, torch.Tensor) else items[::-1])
    require(_close(turned.flip(0), together), f"a {what}'s vector depends on its place among others")


def _tensors(held: Any, depth: int = 3) -> Iterator[torch.Tensor]:
    """Weights that an object holds: as tensors, in modules, or in dictionaries and lists of these."""
    if isinstance(held, torch.Tensor):
        if held.is_floating_point():
            yield held
    elif isinstance(held, torch.nn.Module):
        yield from _tensors(list(held.parameters()), depth)
    elif isinstance(held, dict | list | tuple) and depth:
        for one in held.values() if isinstance(held, dict) else held:
            yield from _tensors(one, depth - 1)


_opened: list[list[str]] = []
"""Files that were opened, for whoever asks."""


@contextmanager
def _files_opened() -> Iterator[list[str]]:
    """Which files are opened inside, but for code."""
    if not _hooked:
        sys.addaudithook(_heard)  # there is no taking it away: it does nothing but here
        _hooked.append(True)
    found: list[str] = []
    _opened.append(found)
    try:
        yield found
    finally:
        _opened.remove(found)


_hooked: list[bool] = []


def _heard(event: str, given: tuple[Any, ...]) -> None:
    if _opened and event in ("open", "sqlite3.connect"):
        name = str(given[0])
        if not name.endswith((".py", ".pyc", ".so")):
            _opened[-1].append(name)

"""From a backbone's name to the backbone."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from retune.backbones.base import Backbone
from retune.backbones.files import local_folder
from retune.backbones.precision import Precision
from retune.backbones.told import in_one_line, told
from retune.errors import MissingFiles, UserError
from retune.parts import part

SCHEMES: Final = ("open_clip", "hf-hub", "local-dir", "pair", "features")

_OPEN_CLIP: Final = "open_clip_config.json"
_TRANSFORMERS: Final = "config.json"


def load_backbone(
    name: str | type[Backbone] | Backbone, *, device: str = "auto", precision: Precision = "fp32"
) -> Backbone:
    """Make a backbone; nothing is read or imported that its name does not need.

    Args:
        name: ``open_clip:NAME/TAG``; ``hf-hub:ORG/REPO`` or ``local-dir:PATH`` in open_clip's or transformers'
            format; ``pair:VISION+TEXT``; ``features:FILE``; otherwise a registered name (``phantom-clip``)
            or a local file (``./mine.py``). Or a class, or an instance: another of its name is made.
        device: Where to encode, e.g. ``"cpu"`` or ``"cuda:1"``; ``"auto"`` is a GPU where there is one.
        precision: Of the products: ``fp32`` or ``bf16``.

    Raises:
        UserError: If there is no such name, or its plugin cannot be used.
    """
    backbone = _make(part("backbones", name, "load_backbone").name)
    backbone.device, backbone.precision = device, precision
    return backbone


def _make(name: str) -> Backbone:
    scheme, _, rest = name.partition(":")
    if scheme == "pair":
        from retune.backbones.pair.model import Pair

        return Pair(name)
    if scheme == "features":
        from retune.backbones.lookup.model import Precomputed

        return Precomputed(name)
    if scheme in SCHEMES:
        if not rest:
            raise UserError(
                "names no model",
                where=name,
                fix="write open_clip:NAME/TAG, hf-hub:ORG/REPO, local-dir:PATH, pair:VISION+TEXT or features:FILE",
            )
        config = None if scheme == "open_clip" else _config(scheme, rest)
        if config is not None and config.name == _TRANSFORMERS:
            return _of_transformers(name, config)
        from retune.backbones.openclip.model import OpenClip

        return OpenClip(name)
    from retune.plugins import BUILT_IN, registry

    known = registry("backbones")
    cls: type[Backbone] = known.load(name)
    if known.origin(name) != BUILT_IN:
        cls = in_one_line(cls, name)
    with told("cannot be made", f"backbone {name}", f"retune check backbone {name}"):
        return cls()


def _config(scheme: str, rest: str) -> Path:
    """The configuration that says in whose format a model is; open_clip's where a model comes in both."""
    from retune.backbones import hub
    from retune.backbones.openclip.files import NEEDS

    if scheme == "local-dir":
        folder = local_folder(rest, f"local-dir:{rest}")
        for name in (_OPEN_CLIP, _TRANSFORMERS):
            if (folder / name).is_file():
                return folder / name
        raise MissingFiles(
            f"holds no {_OPEN_CLIP} and no {_TRANSFORMERS}",
            where=str(folder),
            fix="give a folder in the format of open_clip or of transformers",
        )
    theirs = hub.cached(rest, (_TRANSFORMERS,))
    if theirs is None:
        return hub.from_hub(rest, (_OPEN_CLIP, _TRANSFORMERS), needs=NEEDS)
    if not hub.known_absent(rest, _OPEN_CLIP):
        try:
            return hub.fetched(rest, (_OPEN_CLIP,), needs=NEEDS) or theirs
        except MissingFiles:
            # Without a network, what is in the cache is all there is.
            return theirs
    return theirs


def _of_transformers(name: str, path: Path) -> Backbone:
    from retune.backbones.hf.files import read_config
    from retune.backbones.hf.model import TransformersDual

    config = read_config(path)
    if not {"text_config", "vision_config"} <= set(config):
        tower = "an image tower" if {"patch_size", "num_channels"} & set(config) else "a text tower"
        raise UserError(f"is {tower} only", where=name, fix="write pair:VISION+TEXT to join two towers")
    return TransformersDual(name)

"""A vision tower and a text tower that never saw each other, for methods that learn the joint space."""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final

from PIL import Image

from retune.backbones.base import Backbone, BackboneCard, TextPath
from retune.backbones.files import digests, fingerprint
from retune.backbones.told import in_one_line
from retune.errors import UnknownName, UserError

if TYPE_CHECKING:
    import torch

    from retune.backbones.pair.text import TextHalf, TextModel
    from retune.backbones.pair.vision import ImageTower, VisionTower

SCHEMES: Final = ("hf-hub", "local-dir", "timm", "xrv")
"""Kinds of vision tower."""

ADAPTER: Final = "pair/1"
"""Enters every fingerprint, beside those of the towers' own adapters."""

USAGE: Final = (
    "write pair:VISION+TEXT, where VISION is hf-hub:ORG/REPO, local-dir:PATH, timm:NAME or xrv:NAME and TEXT is "
    "hf-hub:ORG/REPO or local-dir:PATH"
)


@dataclass(frozen=True)
class Known:
    """What is published about a tower but not in its files.

    Args:
        licence: Of the weights.
        data: Data sets seen in pre-training, by their names in retune where they have one.
    """

    licence: str
    data: tuple[str, ...]


UNKNOWN: Final = Known("unknown", ("unknown",))
KNOWN: Final[dict[str, Known]] = {
    "hf-hub:microsoft/rad-dino": Known("MIT", ("mimic-cxr", "chexpert", "nih", "padchest", "brax")),
    "hf-hub:facebook/dinov2-small": Known("Apache-2.0", ("LVD-142M",)),
    "hf-hub:facebook/dinov2-base": Known("Apache-2.0", ("LVD-142M",)),
    "hf-hub:facebook/dinov2-large": Known("Apache-2.0", ("LVD-142M",)),
    "hf-hub:facebook/dinov2-with-registers-base": Known("Apache-2.0", ("LVD-142M",)),
    "hf-hub:microsoft/BiomedVLP-CXR-BERT-general": Known(
        "MIT", ("PubMed abstracts", "MIMIC-III notes", "mimic-cxr")
    ),
    "hf-hub:microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract-fulltext": Known(
        "MIT", ("PubMed abstracts", "PubMed Central articles")
    ),
    "xrv:densenet121-res224-all": Known(
        "Apache-2.0", ("nih", "padchest", "chexpert", "mimic-cxr", "openi", "rsna")
    ),
    # The images of RSNA's and SIIM's challenges are NIH's.
    "xrv:densenet121-res224-rsna": Known("Apache-2.0", ("rsna", "nih")),
    "xrv:densenet121-res224-nih": Known("Apache-2.0", ("nih",)),
    "xrv:densenet121-res224-pc": Known("Apache-2.0", ("padchest",)),
    "xrv:densenet121-res224-chex": Known("Apache-2.0", ("chexpert",)),
    "xrv:densenet121-res224-mimic_nb": Known("Apache-2.0", ("mimic-cxr",)),
    "xrv:densenet121-res224-mimic_ch": Known("Apache-2.0", ("mimic-cxr",)),
    "xrv:resnet50-res512-all": Known("Apache-2.0", ("padchest", "nih", "rsna", "siim", "vindr-cxr")),
    "xrv:resnetae-101-elastic": Known("Apache-2.0", ("nih", "padchest", "rsna", "mimic-cxr", "chexpert")),
    # EfficientNet-Lite0 as retune.backbones.pair.packaged writes it.
    "384371dbd49f5bd24d4e89f607c22e2b1babbdb5c58d86a1cf3279ac1d490191": Known("Apache-2.0", ("ImageNet-1k",)),
    # all-MiniLM-L6-v2, wherever it comes from.
    "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db": Known(
        "Apache-2.0", ("1.17 billion pairs of sentences (Reddit, S2ORC, WikiAnswers and others)",)
    ),
}
"""By the tower's name, or by the SHA-256 of its one file of weights."""


@in_one_line
class Pair(Backbone):
    """A vision tower beside a text tower; a cosine between an image and a text means nothing here.

    An image's vector is the class token after the last norm (DINOv2, ViT), what the model itself pools
    (the vision halves of CLIP and SigLIP, ResNet, Swin, timm), or the mean of the last feature map
    (torchxrayvision). A text's is pooled as its files say where it is a model of sentence-transformers; else it is
    the pooler's output where the checkpoint holds a pooler, the first word's state where it does not, and the last
    word's state for GPT-2. Texts are cut after 256 word pieces.

    Args:
        source: ``pair:VISION+TEXT``. VISION is ``hf-hub:ORG/REPO``, ``local-dir:PATH``, ``timm:NAME[.TAG]``,
            ``timm:hf-hub:ORG/REPO``, ``timm:local-dir:PATH``, ``xrv:NAME`` or ``xrv:NAME@FILE``; TEXT is
            ``hf-hub:ORG/REPO`` or ``local-dir:PATH``.
        name: What results call it; by default the source.

    Raises:
        UserError: If the source is not of that form.
    """

    # Whether the image tower takes prompts is seen when it is loaded.
    capabilities = frozenset(
        {"features", "texts", "tokens", "text-gradients", "trainable-tower", "prompted-tower", "pixels"}
    )

    concurrent = True

    def __init__(self, source: str, *, name: str | None = None) -> None:
        self.source = source
        self.name = name or source
        self.vision_name, self.text_name = split(source)

    @cached_property
    def card(self) -> BackboneCard:
        """Sizes from the towers' files; licences and pre-training data where the towers are known ones."""
        dim, token_dim, _ = self._vision.shapes
        halves = _known(self.vision_name, self._vision), _known(self.text_name, self._text)
        return BackboneCard(
            source=self.source,
            licence=" and ".join(dict.fromkeys(half.licence for half in halves)),
            pretraining_data=tuple(dict.fromkeys(name for half in halves for name in half.data)),
            image_size=self._vision.size,
            dim=dim,
            text_dim=self._text.dim,
            token_dim=token_dim,
            text_token_dim=self._text.dim,
        )

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of both towers' fingerprints."""
        return fingerprint(
            {"adapter": ADAPTER, "vision": self._vision.fingerprint, "text": self._text.fingerprint}
        )

    @cached_property
    def parameters(self) -> int:
        """Parameters of both towers as used here, without heads that are left out; weights are not read."""
        return self._vision.shapes[2] + self._text.parameters

    def preprocess(self, image: Image.Image) -> torch.Tensor:
        """One picture, any size, as uint8 (S, S), by the vision library's own steps."""
        return self._vision.preprocess(image)

    def encode_images(self, pixels: torch.Tensor) -> torch.Tensor:
        """Embed uint8 (B, S, S) preprocessed pictures as float32 (B, d), not normalised."""
        return self._encoded(pixels)[0]

    def encode_tokens(self, pixels: torch.Tensor) -> torch.Tensor:
        """Embed the patches of uint8 (B, S, S) pictures as float32 (B, T, w), row by row.

        They are the last hidden states, or the positions of the last feature map.
        """
        return self._encoded(pixels)[1]

    def encode_texts(self, texts: Sequence[str]) -> torch.Tensor:
        """Embed P texts as float32 (P, d_text), not normalised; no text depends on its neighbours."""
        return self._loaded_text.vectors(texts)

    def encode_words(self, texts: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """Embed the word pieces of P texts in context, float32 (P, L, w), and which are words, bool (P, L).

        The tokenizer's start and end tokens are among them; padding is zero.
        """
        return self._loaded_text.words(texts)

    def text_path(self) -> TextPath:
        """The frozen text tower from word embeddings on."""
        return self._loaded_text

    def image_tower(self) -> torch.nn.Module:
        """A trainable copy of the vision tower, in evaluation mode, on this backbone's device."""
        return copy.deepcopy(self._loaded_vision).requires_grad_(True)

    def _encoded(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        import torch

        with torch.inference_mode(), self.autocast():
            features, patches = self._loaded_vision.both(pixels)
            return features.cpu(), patches.cpu()

    @cached_property
    def _vision(self) -> VisionTower:
        return vision_tower(self.vision_name)

    @cached_property
    def _text(self) -> TextHalf:
        from retune.backbones.pair.text import TextHalf

        return TextHalf(self.text_name)

    @cached_property
    def _loaded_vision(self) -> ImageTower:
        # What does not fit is told before weights are read.
        _ = self._vision.shapes
        return self._vision.load().to(self.torch_device)

    @cached_property
    def _loaded_text(self) -> TextModel:
        return self._text.load(self.torch_device, self.autocast)


def _known(name: str, tower: VisionTower | TextHalf) -> Known:
    found = KNOWN.get(name.partition("@")[0])
    if found is None and tower.weights is not None:
        found = KNOWN.get(digests({"weights": tower.weights})["weights"])
    return found or UNKNOWN


def split(source: str) -> tuple[str, str]:
    """The two towers of ``pair:VISION+TEXT``.

    A plus sign may stand in a path: the first that is followed by a scheme of TEXT parts the two.

    Raises:
        UserError: If the name is not of that form.
    """
    found = re.fullmatch(
        r"pair:((?:hf-hub|local-dir|timm|xrv):.+?)\+((?:hf-hub|local-dir):.+)", source, flags=re.DOTALL
    )
    if not found:
        raise UserError("does not name two towers", where=source, fix=USAGE)
    return found[1], found[2]


def vision_tower(name: str) -> VisionTower:
    """The vision tower of a name; nothing is read yet.

    Raises:
        UnknownName: If the scheme is none of ``hf-hub``, ``local-dir``, ``timm``, ``xrv``.
    """
    scheme = name.partition(":")[0]
    if scheme in ("hf-hub", "local-dir"):
        from retune.backbones.pair.vision_hf import HfVision

        return HfVision(name)
    if scheme == "timm":
        from retune.backbones.pair.vision_timm import TimmVision

        return TimmVision(name)
    if scheme == "xrv":
        from retune.backbones.pair.vision_xrv import XrvVision

        return XrvVision(name)
    raise UnknownName("kind of vision tower", scheme, SCHEMES, where=name)

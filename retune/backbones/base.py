"""What retune asks of a frozen vision-language model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final, Literal, Protocol

from PIL import Image

from retune.backbones.precision import Precision, autocast, choose_device
from retune.errors import UserError

if TYPE_CHECKING:
    import torch

Capability = Literal[
    "features", "texts", "joint", "tokens", "text-gradients", "trainable-tower", "prompted-tower", "pixels"
]

MEANINGS: Final[dict[Capability, str]] = {
    "features": "one vector per image",
    "texts": "one vector per text",
    "joint": "images and texts in one space, where a cosine means something",
    "tokens": "a vector per image patch and per word",
    "text-gradients": "a differentiable path through the text tower",
    "trainable-tower": "an image tower that can be trained",
    "prompted-tower": "an image tower, a vision transformer, that takes further tokens",
    "pixels": "preprocessed pictures",
}


@dataclass(frozen=True)
class BackboneCard:
    """What a reader must know of a backbone before trusting a number made with it.

    Args:
        source: Where weights and description come from.
        licence: Licence of the weights.
        pretraining_data: Data sets seen in pre-training, by their names in retune where they have one
            (``"mimic-cxr"``); ``("none",)`` where nothing was seen, ``("unknown",)`` where nobody says. Needed to flag
            contamination.
        image_size: Input side S in pixels.
        dim: Dimension d of an image's vector.
        text_dim: Dimension of a text's vector; None where it is ``dim``.
        token_dim: Dimension w of a patch's vector; None where patches are not given.
        text_token_dim: Dimension of a word's vector; None where words are not given.
        synthetic: Whether it was pre-trained on computed pictures only, and knows nothing of real ones.
        may_include: Data sets that may be part of the pre-training data, though nobody says so.
    """

    source: str
    licence: str
    pretraining_data: tuple[str, ...]
    image_size: int
    dim: int
    text_dim: int | None = None
    token_dim: int | None = None
    text_token_dim: int | None = None
    may_include: tuple[str, ...] = ()
    synthetic: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.pretraining_data, tuple) or not self.pretraining_data:
            raise UserError(
                f"pretraining_data is {self.pretraining_data!r}, not a tuple of names",
                where="the backbone's card",
                fix='write ("none",) where nothing was seen in pre-training, ("unknown",) where nobody says',
            )


class TextPath(Protocol):
    """A frozen text tower as a differentiable function of word embeddings, for learnt prompts."""

    width: int
    """Dimension w of a word embedding."""

    @property
    def module(self) -> torch.nn.Module:
        """What holds the tower's weights."""
        ...

    def embed(self, texts: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """Word embeddings of P texts, (P, L, w), and which of them are words, bool (P, L).

        Words come first, padding last; the first word is the tower's start token where it has one.
        Positions are not added yet.
        """
        ...

    def encode(self, words: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Vectors of P texts, (P, d_text), as ``encode_texts`` gives them, with gradients to ``words``."""
        ...


class Backbone(ABC):
    """A frozen vision-language model.

    Making one is cheap: weights are read when something is first encoded, so that a run whose
    features are all in the store never loads the model. ``device`` and ``precision`` are set before that.
    """

    name: str
    capabilities: frozenset[Capability] = frozenset({"features", "texts", "joint", "pixels"})
    device: str = "auto"
    precision: Precision = "fp32"
    concurrent: bool = False
    """Whether ``encode_images`` and ``encode_tokens`` may be called from several threads at once.

    Each encodes in one thread, whatever the machine, so that features do not depend on it; on a processor with
    many cores, a backbone that allows this keeps all of them busy.
    """
    precomputed: bool = False
    """Whether features are looked up by image id rather than made of pictures."""

    @property
    @abstractmethod
    def card(self) -> BackboneCard:
        """Licence, pre-training data, sizes."""

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """SHA-256 of weights, architecture and preprocessing; no path, date or device enters it."""

    @property
    @abstractmethod
    def parameters(self) -> int:
        """Number of parameters of both towers."""

    @abstractmethod
    def preprocess(self, image: Image.Image) -> torch.Tensor:
        """One 8-bit grey picture, resized and cropped as the model wants it: uint8 (S, S).

        The model itself is not loaded; called from several threads.
        """

    @abstractmethod
    def encode_images(self, pixels: torch.Tensor) -> torch.Tensor:
        """Embed uint8 (B, S, S) preprocessed pictures as float32 (B, d) on the CPU, not normalised."""

    @abstractmethod
    def encode_texts(self, texts: Sequence[str]) -> torch.Tensor:
        """Embed P texts as float32 (P, d_text) on the CPU, not normalised; none depends on its neighbours."""

    def encode_tokens(self, pixels: torch.Tensor) -> torch.Tensor:
        """Embed the patches of uint8 (B, S, S) pictures as float32 (B, T, w) on the CPU.

        What they are is for the tower to say; no class or register token is among them. Capability ``tokens``.
        """
        raise NotImplementedError(f"backbone {self.name} gives no tokens")

    def encode_words(self, texts: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """Embed the words of P texts in context, float32 (P, L, w), and which are words, bool (P, L).

        Capability ``tokens``.
        """
        raise NotImplementedError(f"backbone {self.name} gives no tokens")

    def text_path(self) -> TextPath:
        """The text tower from word embeddings on. Capability ``text-gradients``."""
        raise NotImplementedError(f"backbone {self.name} gives no gradients of texts")

    def image_tower(self) -> torch.nn.Module:
        """A trainable copy of the image tower: uint8 (B, S, S) to (B, d). Capability ``trainable-tower``.

        Its method ``maps`` gives the patches of :meth:`encode_tokens`, in their places, of the weights as they have
        become: uint8 (B, S, S) to float32 (B, w, g, g). Without it, ``--transfer`` cannot look into a trained tower.
        """
        raise NotImplementedError(f"backbone {self.name} has no trainable image tower")

    @cached_property
    def torch_device(self) -> torch.device:
        """The device that the setting ``device`` means here."""
        return choose_device(self.device)

    def autocast(self) -> AbstractContextManager[None]:
        """The precision that the setting ``precision`` asks for."""
        return autocast(self.torch_device, self.precision)

"""Any dual encoder of transformers: CLIP, SigLIP and their like, on the Hugging Face hub or in a folder."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from PIL import Image

from retune.backbones.base import Backbone, BackboneCard, Capability, TextPath
from retune.backbones.hf.files import HfFiles, count_all_parameters, find_hf_files, fingerprint_of
from retune.backbones.hf.load import load_config, load_image_processor, load_model, load_tokenizer
from retune.backbones.told import in_one_line
from retune.errors import UserError

if TYPE_CHECKING:
    import torch

    from retune.backbones.hf.towers import HfText, Normalise

ADAPTER: Final = "transformers-dual/1"
"""Enters every fingerprint; goes up whenever this file would turn the same weights into other features."""

DUAL: Final = ("chinese_clip", "clip", "metaclip_2", "siglip")
"""The architectures (``model_type``) that are known to work. Fixed-size SigLIP 2 models are ``siglip``."""

_SEE_PADDING: Final = ("siglip",)
"""Trained on texts of full length without a mask."""


@in_one_line
class TransformersDual(Backbone):
    """An image tower and a text tower that transformers loads as one model.

    Patches are the image tower's last hidden state as transformers returns it, class token left out: before
    the closing norm in CLIP, after it in SigLIP. Words are the text tower's last hidden state.

    Args:
        source: ``hf-hub:ORG/REPO`` or ``local-dir:PATH``.
        name: What results call it; by default the source.
    """

    capabilities: frozenset[Capability] = frozenset(
        {
            "features",
            "texts",
            "joint",
            "tokens",
            "text-gradients",
            "trainable-tower",
            "prompted-tower",
            "pixels",
        }
    )

    concurrent = True

    def __init__(self, source: str, *, name: str | None = None) -> None:
        self.source = source
        self.name = name or source

    @cached_property
    def files(self) -> HfFiles:
        """Configuration, weights, image processor and tokenizer; found, or downloaded, at first use.

        Raises:
            UserError: If the model is no dual encoder of a known architecture.
        """
        files = find_hf_files(self.source)
        kind = files.config.get("model_type")
        if kind not in DUAL:
            raise UserError(
                f"its architecture ({kind or 'no model_type'}) is none of the dual encoders known here",
                where=files.where,
                fix=f"known: {', '.join(DUAL)}",
            )
        return files

    @property
    def card(self) -> BackboneCard:
        """What the files themselves say; nothing in them names the pre-training data."""
        return self._own_card

    @cached_property
    def _own_card(self) -> BackboneCard:
        image, text = self._config.vision_config, self._config.text_config
        joint = self._config.model_type not in _SEE_PADDING
        return BackboneCard(
            source=self.source,
            licence=_licence(self.files),
            pretraining_data=("unknown",),
            image_size=int(image.image_size),
            dim=int(self._config.projection_dim if joint else image.hidden_size),
            token_dim=int(image.hidden_size),
            text_token_dim=int(text.hidden_size),
        )

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of weights, configuration, processor, tokenizer and this adapter."""
        return fingerprint_of(ADAPTER, self.files)

    @cached_property
    def parameters(self) -> int:
        """Parameters of both towers, read off the weights' headers where they have them."""
        return count_all_parameters(self.files)

    def preprocess(self, image: Image.Image) -> torch.Tensor:
        """One picture, any size, as uint8 (S, S): the model's own image processor up to rescaling."""
        import numpy as np
        import torch

        made = self._processor(
            # One channel: the model's three would be resized to the same numbers.
            np.asarray(image.convert("L"))[None],
            input_data_format="channels_first",
            do_convert_rgb=False,
            do_rescale=False,
            do_normalize=False,
            return_tensors="np",
        )
        grey = np.ascontiguousarray(made["pixel_values"][0][0])
        side = self._config.vision_config.image_size
        if grey.dtype != np.uint8 or grey.shape != (side, side):
            raise UserError(
                f"its image processor makes {grey.dtype} pictures of {'x'.join(map(str, grey.shape))}, "
                f"the model reads uint8 of {side}x{side}",
                where=self.files.where,
            )
        return torch.from_numpy(grey)

    def encode_images(self, pixels: torch.Tensor) -> torch.Tensor:
        """Embed uint8 (B, S, S) preprocessed pictures as float32 (B, d), not normalised."""
        import torch

        from retune.backbones.hf.towers import pooled

        with torch.inference_mode(), self.autocast():
            return pooled(self._model.get_image_features(pixel_values=self._normalised(pixels))).float().cpu()

    def encode_tokens(self, pixels: torch.Tensor) -> torch.Tensor:
        """Last hidden state of the T patches of uint8 (B, S, S) pictures, float32 (B, T, w)."""
        import torch

        from retune.backbones.hf.towers import patch_tokens

        with torch.inference_mode(), self.autocast():
            return patch_tokens(self._model.vision_model, self._normalised(pixels)).float().cpu()

    def encode_texts(self, texts: Sequence[str]) -> torch.Tensor:
        """Embed P texts as float32 (P, d), not normalised; no text depends on its neighbours."""
        import torch

        from retune.backbones.hf.towers import pooled
        from retune.backbones.towers import encode_in_batches

        def encode(batch: list[str]) -> torch.Tensor:
            tokens = self._tokens(batch)
            self._text.require_known(int(tokens.input_ids.max()))
            return pooled(self._model.get_text_features(**tokens.to(self.torch_device)))

        with torch.inference_mode(), self.autocast():
            return encode_in_batches(texts, encode, self.card.dim)

    def encode_words(self, texts: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """Last hidden state of the words of P texts, float32 (P, L, w), and which are words, bool (P, L).

        Start and end tokens are words; what lies beyond a text is zero.
        """
        import torch

        with torch.inference_mode():
            return self._text.words(texts)

    def text_path(self) -> TextPath:
        """The text tower from word embeddings on."""
        return self._text

    def image_tower(self) -> torch.nn.Module:
        """A trainable copy of the image tower and its projection."""
        from retune.backbones.hf.towers import Vision, patch_tokens
        from retune.backbones.towers import ImageTower

        return ImageTower(
            Vision(self._model), self._normalise, lambda vision, images: patch_tokens(vision.tower, images)
        )

    @property
    def logit_scale(self) -> float:
        """The inverse temperature the model was trained to."""
        return float(self._model.logit_scale.detach().exp())

    @cached_property
    def _config(self) -> Any:
        return load_config(self.files)

    @cached_property
    def _model(self) -> Any:
        device = self.torch_device
        return load_model(self.files).to(device)

    @cached_property
    def _processor(self) -> Any:
        return load_image_processor(self.files)

    @cached_property
    def _normalise(self) -> Normalise:
        from retune.backbones.hf.towers import Normalise

        return Normalise(self._processor)

    def _normalised(self, pixels: torch.Tensor) -> torch.Tensor:
        from retune.backbones.towers import normalised

        return normalised(pixels, self._normalise, self.torch_device)

    @cached_property
    def _tokenizer(self) -> Any:
        return load_tokenizer(self.files)

    @property
    def _length(self) -> int:
        """Tokens that the text tower takes."""
        return min(
            int(self._config.text_config.max_position_embeddings), int(self._tokenizer.model_max_length)
        )

    def _tokens(self, texts: Sequence[str], **settings: Any) -> Any:
        """Token numbers (P, C) of P texts, cut and padded to C, and the mask if the tower was trained with one."""
        return self._tokenizer(
            list(texts),
            padding="max_length",
            truncation=True,
            max_length=self._length,
            return_tensors="pt",
            return_token_type_ids=False,
            return_attention_mask=self._config.model_type not in _SEE_PADDING,
            **settings,
        )

    @cached_property
    def _text(self) -> HfText:
        from retune.backbones.hf.towers import HfText

        tokenizer = self._tokenizer
        text = HfText(
            self._model,
            lambda texts: self._tokens(texts, padding_side="right").input_ids,
            self._length,
            self.autocast,
            numbers=(tokenizer.eos_token_id, tokenizer.pad_token_id),
            sees_padding=self._config.model_type in _SEE_PADDING,
            pads_left=tokenizer.padding_side == "left",
        )
        text.where = self.source
        return text


def _licence(files: HfFiles) -> str:
    """The licence that the model card's front matter names."""
    try:
        lines = (files.folder / "README.md").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return "unknown"
    if lines[:1] != ["---"] or "---" not in lines[1:]:
        return "unknown"
    front = dict(line.split(":", 1) for line in lines[1 : lines.index("---", 1)] if ":" in line)
    licence, its_name = (front.get(key, "").strip(" '\"") for key in ("license", "license_name"))
    return (its_name if licence == "other" else "") or licence or "unknown"

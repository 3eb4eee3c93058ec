"""Any model in open_clip's format: built in, on the Hugging Face hub, or in a folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from PIL import Image

from retune.backbones.base import Backbone, BackboneCard, Capability, TextPath
from retune.backbones.files import count_parameters, digests, fingerprint, folder_of
from retune.backbones.hf.load import settle
from retune.backbones.openclip import config
from retune.backbones.openclip.files import TEXT_TOWER, TOKENIZER, ModelFiles, find_files
from retune.backbones.quiet import quiet
from retune.backbones.told import in_one_line, told

if TYPE_CHECKING:
    import torch

    from retune.backbones.towers import TextTower

ADAPTER: Final = "open_clip/2"
"""Enters every fingerprint; goes up whenever this file would turn the same weights into other features."""


@in_one_line
class OpenClip(Backbone):
    """A CLIP-like model that open_clip can load.

    Args:
        source: ``open_clip:NAME/TAG``, ``hf-hub:ORG/REPO`` or ``local-dir:PATH``.
        name: What results call it; by default the source.
    """

    concurrent = True

    def __init__(self, source: str, *, name: str | None = None) -> None:
        self.source = source
        self.name = name or source

    @cached_property
    def files(self) -> ModelFiles:
        """Configuration, weights and tokenizer; found, and downloaded if need be, at first use."""
        return find_files(self.source)

    @cached_property
    def capabilities(self) -> frozenset[Capability]:  # type: ignore[override]
        """What the configuration's architecture can do; no weights are read."""
        return config.abilities(self.files.model_cfg)

    @cached_property
    def card(self) -> BackboneCard:
        """What the files themselves say; nothing in them names the pre-training data."""
        inside = "tokens" in self.capabilities
        return BackboneCard(
            source=self.source,
            licence="unknown",
            pretraining_data=("unknown",),
            image_size=config.image_size(self.files.model_cfg),
            dim=int(self.files.model_cfg["embed_dim"]),
            token_dim=config.token_dim(self.files) if inside else None,
            text_token_dim=config.text_token_dim(self.files) if inside else None,
        )

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of weights, configuration, tokenizer and this adapter; the same wherever they lie."""
        files = self.files
        # Names of other models may be paths; what they stand for is among the parts.
        text_cfg = {k: v for k, v in files.model_cfg["text_cfg"].items() if k not in _PLACES}
        return fingerprint(
            {
                "adapter": ADAPTER,
                "model": {**files.model_cfg, "text_cfg": text_cfg},
                "preprocess": files.preprocess_cfg,
                "parts": digests(files.parts),
            }
        )

    @cached_property
    def parameters(self) -> int:
        """Parameters of both towers, read off the file's header; a pickled checkpoint has to be loaded."""
        if self.files.weights.suffix == ".safetensors":
            return count_parameters(self.files.weights)
        return sum(p.numel() for p in self._model.parameters())

    def preprocess(self, image: Image.Image) -> torch.Tensor:
        """One picture, any size, as uint8 (S, S); the model itself is not loaded."""
        import numpy as np
        import torch

        resize, _ = self._transform
        return torch.from_numpy(np.array(resize(image.convert("L")).getchannel(0)))

    def encode_images(self, pixels: torch.Tensor) -> torch.Tensor:
        """Embed uint8 (B, S, S) preprocessed pictures as float32 (B, d), not normalised."""
        import torch

        with torch.inference_mode(), self.autocast():
            features: torch.Tensor = self._model.encode_image(self._normalised(pixels))
            return features.float().cpu()

    def encode_texts(self, texts: Sequence[str]) -> torch.Tensor:
        """Embed P texts as float32 (P, d), not normalised; no text depends on its neighbours."""
        import torch

        from retune.backbones.towers import encode_in_batches

        def encode(batch: list[str]) -> torch.Tensor:
            features: torch.Tensor = self._model.encode_text(self._text.ids(batch))
            return features

        with torch.inference_mode(), self.autocast():
            return encode_in_batches(texts, encode, self.card.dim)

    def encode_tokens(self, pixels: torch.Tensor) -> torch.Tensor:
        """Embed the patches of uint8 (B, S, S) pictures as float32 (B, T, w), not projected.

        They are the last layer's: of a transformer without its class token, of a convolutional network row by row.
        """
        import torch

        from retune.backbones.openclip.towers import patch_tokens

        if "tokens" not in self.capabilities:
            return super().encode_tokens(pixels)
        with torch.inference_mode(), self.autocast():
            return patch_tokens(self._model.visual, self._normalised(pixels)).float().cpu()

    def encode_words(self, texts: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """Embed the words of P texts in context, float32 (P, L, w), zero beyond each, and the mask (P, L)."""
        import torch

        if "tokens" not in self.capabilities:
            return super().encode_words(texts)
        with torch.inference_mode():
            return self._text.words(texts)

    def text_path(self) -> TextPath:
        """The frozen text tower from word embeddings on."""
        return self._text if "text-gradients" in self.capabilities else super().text_path()

    def image_tower(self) -> torch.nn.Module:
        """A trainable copy of the image tower, uint8 (B, S, S) to (B, d), on the device of this backbone."""
        from retune.backbones.openclip.towers import patch_tokens
        from retune.backbones.towers import ImageTower

        if "trainable-tower" not in self.capabilities:
            return super().image_tower()
        return ImageTower(self._model.visual, self._transform[1], patch_tokens)

    @property
    def logit_scale(self) -> float:
        """The inverse temperature the model was trained to."""
        return float(self._model.logit_scale.detach().exp())

    def _normalised(self, pixels: torch.Tensor) -> torch.Tensor:
        from retune.backbones.towers import normalised

        return normalised(pixels, self._transform[1], self.torch_device)

    @cached_property
    def _text(self) -> TextTower:
        from retune.backbones.openclip.towers import text_tower

        length = config.context_length(self.files.model_cfg)
        text = text_tower(self._model, self._tokenizer, length, self.autocast)
        text.where = self.source
        return text

    @cached_property
    def _transform(
        self,
    ) -> tuple[Callable[[Image.Image], Image.Image], Callable[[torch.Tensor], torch.Tensor]]:
        """open_clip's own preprocessing, cut in two: before and after pixels become numbers."""
        with quiet():
            import open_clip.transform as transforms
            from torchvision.transforms import Compose, Normalize, ToTensor

            files = self.files
            settings = transforms.merge_preprocess_dict(transforms.PreprocessCfg(), files.preprocess_cfg)
            settings["size"] = files.model_cfg["vision_cfg"].get("image_size", 224)
            with told("open_clip cannot use its preprocess_cfg", files.where):
                steps = transforms.image_transform_v2(
                    transforms.PreprocessCfg(**settings), is_train=False
                ).transforms
        cut = next(k for k, step in enumerate(steps) if isinstance(step, ToTensor))
        (normalise,) = (step for step in steps if isinstance(step, Normalize))
        return Compose(steps[:cut]), normalise

    @cached_property
    def _model(self) -> Any:
        import torch

        device = self.torch_device
        # Weights made in inference mode could never take part in a gradient.
        with quiet(), torch.inference_mode(mode=False):
            import open_clip

            files = self.files
            text_cfg = dict(files.model_cfg["text_cfg"])
            of_tower = {"config.json": files.parts[TEXT_TOWER]} if files.text_tower else {}
            with (
                folder_of(of_tower) as folder,
                told("open_clip cannot build this model", files.where, behind=folder),
                _no_remote_code(),
            ):
                if of_tower:
                    text_cfg |= {"hf_model_name": str(folder), "hf_model_pretrained": False}
                model = open_clip.create_model(
                    files.architecture, load_weights=False, pretrained_text=False, text_cfg=text_cfg
                )
            with told("does not fit its configuration or is damaged", str(files.weights)):
                # A text tower's own configuration may have made it of half precision.
                model.float()
                # weights_only: a pickle that would run code is refused.
                open_clip.load_checkpoint(model, str(files.weights), strict=True, weights_only=True)
        return model.to(device).eval().requires_grad_(False)

    @cached_property
    def _tokenizer(self) -> Any:
        text_cfg = self.files.model_cfg["text_cfg"]
        settings = dict(text_cfg.get("tokenizer_kwargs", {}))
        settings["context_length"] = config.context_length(self.files.model_cfg)
        with quiet():
            import open_clip.tokenizer as tokenizers

            home = self.files.tokenizer
            parts = {
                name.removeprefix(TOKENIZER): path
                for name, path in self.files.parts.items()
                if name.startswith(TOKENIZER)
            }
            where = str(home or self.files.where)
            with folder_of(parts) as folder, told("its tokenizer cannot be loaded", where, behind=folder):
                if home is None:
                    return tokenizers.SimpleTokenizer(**settings)
                # Last, so that no configuration can allow it.
                settings |= {"tokenizer_mode": text_cfg.get("tokenizer_mode"), "trust_remote_code": False}
                tokenizer = tokenizers.HFTokenizer(str(folder), **settings)
                settle(tokenizer.tokenizer, home)
        return tokenizer


_PLACES: Final = ("hf_model_name", "hf_tokenizer_name")


@contextmanager
def _no_remote_code() -> Iterator[None]:
    """Let transformers refuse code that comes with a model, where it would otherwise ask on the terminal."""
    from transformers import dynamic_module_utils as module

    name = "TIME_OUT_REMOTE_CODE"
    before = getattr(module, name, None)
    setattr(module, name, 0)
    try:
        yield
    finally:
        setattr(module, name, before)

"""What an open_clip model's configuration says of it; torch is imported only to ask timm for a width."""

from __future__ import annotations

from typing import Any, Final

from retune.backbones.base import Capability
from retune.backbones.openclip.files import ModelFiles
from retune.backbones.quiet import quiet
from retune.errors import UserError
from retune.files import parse_json

WHOLE: Final[frozenset[Capability]] = frozenset({"features", "texts", "joint", "pixels"})
"""What every model gives."""
INSIDE: Final[frozenset[Capability]] = frozenset({"tokens", "text-gradients", "trainable-tower"})
"""What a model gives whose two towers stand alone."""
PROMPTED: Final[frozenset[Capability]] = frozenset({"prompted-tower"})
"""What a vision transformer gives beside; see :class:`retune.strategies.l2p.PromptedTower`."""
TIMM: Final = ("vit_", "deit")
"""How timm's names of vision transformers begin."""


def image_size(model_cfg: dict[str, Any]) -> int:
    """Input side S in pixels."""
    size = model_cfg["vision_cfg"].get("image_size", 224)
    return int(size if isinstance(size, int) else max(size))


def context_length(model_cfg: dict[str, Any]) -> int:
    """How many tokens of a text are read at most."""
    return int(model_cfg["text_cfg"].get("context_length", 77))


def abilities(model_cfg: dict[str, Any]) -> frozenset[Capability]:
    """What a model of this architecture can do.

    CoCa's towers pool by attention over tokens of their own and share a decoder: it gives whole
    pictures and texts only.
    """
    if "multimodal_cfg" in model_cfg or bool(model_cfg["text_cfg"].get("embed_cls")):
        return WHOLE
    return WHOLE | INSIDE | (PROMPTED if _is_transformer(model_cfg["vision_cfg"]) else frozenset())


def _is_transformer(vision: dict[str, Any]) -> bool:
    """Whether an image tower is a plain vision transformer: open_clip's own, or timm's."""
    name = vision.get("timm_model_name")
    return name.startswith(TIMM) if name else not isinstance(vision.get("layers"), list)


def token_dim(files: ModelFiles) -> int:
    """Dimension w of a patch's vector.

    Raises:
        UserError: If the configuration names an image tower that timm does not know.
    """
    vision = files.model_cfg["vision_cfg"]
    if vision.get("timm_model_name"):
        return _timm_width(vision["timm_model_name"], files.where)
    if isinstance(vision.get("layers"), list):
        # A ResNet's four stages widen it eightfold, its bottlenecks fourfold.
        return 32 * int(vision.get("width", 64))
    return int(vision.get("width", 768))


def text_token_dim(files: ModelFiles) -> int:
    """Dimension of a word's vector."""
    if files.text_tower is None:
        return int(files.model_cfg["text_cfg"].get("width", 512))
    path = files.text_tower / "config.json"
    try:
        about = parse_json(path.read_bytes())
        return int(about["hidden_size"] if "hidden_size" in about else about["d_model"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError("does not say the width of the text tower", where=str(path)) from error


def _timm_width(name: str, where: str) -> int:
    """Channels that a timm model's last layer gives; the model is built without memory for weights."""
    with quiet():
        import timm
        import torch

        try:
            with torch.device("meta"):
                trunk: Any = timm.create_model(name, pretrained=False, num_classes=0)
            return int(trunk.num_features)
        except Exception as error:
            raise UserError(f"timm cannot build the image tower '{name}'", where=where) from error

"""From a backbone's name to the backbone."""

from __future__ import annotations

from typing import Final

from retune.backbones.base import Backbone
from retune.errors import BadSetting

SCHEMES: Final = ("open_clip", "hf-hub", "local-dir")


def load_backbone(name: str, *, device: str = "auto") -> Backbone:
    """Make a backbone; nothing is read or imported that its name does not need.

    Args:
        name: ``open_clip:NAME/TAG``, ``hf-hub:ORG/REPO`` or ``local-dir:PATH``; otherwise a registered name
            (``phantom-clip``) or a local file (``./mine.py``).
        device: Where to encode; ``"auto"`` is a GPU where there is one.

    Raises:
        UserError: If there is no such name, or its plugin cannot be used.
    """
    if name.partition(":")[0] in SCHEMES:
        from retune.backbones.open_clip import OpenClip

        return OpenClip(name, device=device)
    from retune.plugins import registry

    backbone = registry("backbones").load(name)()
    assert isinstance(backbone, Backbone)
    if device != "auto":
        if not hasattr(backbone, "device"):
            raise BadSetting("does not let its device be chosen", where=f"backbone {name}")
        backbone.device = device
    return backbone

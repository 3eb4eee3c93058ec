"""From a backbone's name to the backbone."""

from __future__ import annotations

from typing import Final

from retune.backbones.arithmetic import Precision
from retune.backbones.base import Backbone

SCHEMES: Final = ("open_clip", "hf-hub", "local-dir")


def load_backbone(name: str, *, device: str = "auto", precision: Precision = "fp32") -> Backbone:
    """Make a backbone; nothing is read or imported that its name does not need.

    Args:
        name: ``open_clip:NAME/TAG``, ``hf-hub:ORG/REPO`` or ``local-dir:PATH``; otherwise a registered name
            (``phantom-clip``) or a local file (``./mine.py``).
        device: Where to encode, e.g. ``"cpu"`` or ``"cuda:1"``; ``"auto"`` is a GPU where there is one.
        precision: Of the products: ``fp32`` or ``bf16``.

    Raises:
        UserError: If there is no such name, or its plugin cannot be used.
    """
    backbone = _make(name)
    backbone.device, backbone.precision = device, precision
    return backbone


def _make(name: str) -> Backbone:
    if name.partition(":")[0] in SCHEMES:
        from retune.backbones.open_clip import OpenClip

        return OpenClip(name)
    from retune.plugins import registry

    backbone = registry("backbones").load(name)()
    assert isinstance(backbone, Backbone)
    return backbone

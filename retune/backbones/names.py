"""Names of backbones that hold a place on the machine of who gave them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from retune.plugins import is_file

TEXT: Final = re.compile(r"\+(?=(?:hf-hub|local-dir):)")
"""Where the text tower of a pair begins."""
PLACE: Final = re.compile(r"((?:timm:)?local-dir:|features:|xrv:[^@]*@)(.+)", re.DOTALL)


def without_folder(name: str) -> str:
    """A backbone's name without the folders of who ran it, whichever of its towers lies in one."""
    if name.startswith("pair:"):
        return "pair:" + "+".join(map(without_folder, TEXT.split(name.removeprefix("pair:"), maxsplit=1)))
    placed = PLACE.fullmatch(name)
    if placed:
        return f"{placed[1]}{Path(placed[2]).name}"
    return Path(name).name if is_file(name) else name


def is_placed(name: str) -> bool:
    """Whether a name says where something lies, so that it means another thing, or nothing, elsewhere."""
    towers = TEXT.split(name.removeprefix("pair:"), maxsplit=1)
    return is_file(name) or any(PLACE.fullmatch(tower) for tower in towers)

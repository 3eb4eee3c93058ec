"""Vision towers of timm: by name, on the Hugging Face hub, or in a folder in timm's format."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from retune.backbones.files import digests, fingerprint, local_folder
from retune.backbones.hf.files import CONFIG
from retune.backbones.hub import from_hub
from retune.backbones.pair.vision import ImageTower, VisionTower, flat
from retune.backbones.quiet import quiet
from retune.errors import MissingFiles, UnknownName, UserError, gist
from retune.files import parse_json

ADAPTER: Final = "pair vision of timm/1"
"""Enters every fingerprint; goes up whenever this file would turn the same weights into other features."""

WEIGHTS: Final = ("model.safetensors", "pytorch_model.bin")
NEEDS: Final = "config.json and model.safetensors"


@dataclass(frozen=True)
class TimmFiles:
    """A timm model, found but not read.

    Args:
        where: What to name in messages.
        model: What ``timm.create_model`` is asked for: ``local-dir:FOLDER`` or a name.
        num_classes: Classes of the checkpoint's own classifier.
        about: Architecture and its arguments, wherever they lie.
        weights: The checkpoint.
    """

    where: str
    model: str
    num_classes: int
    about: dict[str, Any]
    weights: Path


class TimmVision(VisionTower):
    """A vision tower that timm can load; its vectors are those that timm's own classifier would get.

    Args:
        name: ``timm:NAME[.TAG]``, ``timm:hf-hub:ORG/REPO`` or ``timm:local-dir:PATH``.
    """

    @cached_property
    def files(self) -> TimmFiles:
        """Configuration and weights; found, and downloaded if need be, at first use."""
        return _find(self.name)

    @property
    def weights(self) -> Path:
        """The checkpoint."""
        return self.files.weights

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of weights, architecture, preprocessing and this adapter."""
        parts = digests({"weights": self.files.weights})
        return fingerprint({"adapter": ADAPTER, **self.files.about, "preprocess": self._data, **parts})

    @cached_property
    def size(self) -> int:
        """The input size of these weights."""
        _, height, width = self._data["input_size"]
        if height != width:
            raise UserError(f"takes pictures of {height} x {width} pixels, not square ones", where=self.name)
        return int(height)

    def preprocess(self, image: Image.Image) -> Tensor:
        """Resized and cropped by timm's own transform; uint8 (S, S)."""
        return torch.from_numpy(np.array(self._resize(image.convert("L").convert("RGB")).getchannel(0)))

    def build(self) -> ImageTower:
        """The tower with random weights."""
        return self._tower(pretrained=False)

    def load(self) -> ImageTower:
        """The tower with its weights, float32 and frozen."""
        tower = self._tower(pretrained=True)
        return tower.float().eval().requires_grad_(False)

    def _tower(self, *, pretrained: bool) -> ImageTower:
        model = self._model(pretrained=pretrained)
        layout = getattr(model, "output_fmt", None)
        read = partial(_read, ahead=getattr(model, "num_prefix_tokens", 0), last=str(layout) == "NHWC")
        return ImageTower(model, read, self._data["mean"], self._data["std"])

    def _model(self, *, pretrained: bool) -> Any:
        files = self.files
        with quiet():
            timm: Any = import_module("timm")
            try:
                # With its classifier at first: only then is every weight of the file asked for.
                model = timm.create_model(
                    files.model,
                    pretrained=pretrained,
                    pretrained_cfg_overlay={"file": str(files.weights), "source": None, "custom_load": False},
                    num_classes=files.num_classes,
                )
                model.reset_classifier(0)
            except Exception as error:
                what = (
                    "its weights do not fit or are damaged" if pretrained else "timm cannot build this model"
                )
                raise UserError(f"{what} ({gist(error)})", where=files.where) from error
        return model

    @cached_property
    def _data(self) -> dict[str, Any]:
        # The model's arguments may change its input size.
        with torch.device("meta"):
            model = self._model(pretrained=False)
        with quiet():
            library: Any = import_module("timm.data")
            try:
                data = dict(library.resolve_model_data_config(model))
                channels, height, width = (int(n) for n in data["input_size"])
                data["mean"], data["std"] = ([float(v) for v in data[key]] for key in ("mean", "std"))
            except (KeyError, TypeError, ValueError) as error:
                raise UserError(
                    f"timm cannot use its preprocessing ({gist(error)})", where=self.files.where
                ) from error
        if not channels == len(data["mean"]) == len(data["std"]):
            raise UserError(f"has {channels} channels but {len(data['mean'])} means", where=self.files.where)
        return {**data, "input_size": (channels, height, width)}

    @cached_property
    def _resize(self) -> Callable[[Image.Image], Image.Image]:
        """The library's own preprocessing up to where pixels become numbers."""
        with quiet():
            from timm.data.transforms import MaybeToTensor
            from torchvision.transforms import Compose

            library: Any = import_module("timm.data")
            steps = library.create_transform(**self._data, is_training=False).transforms
        cut = next(k for k, step in enumerate(steps) if isinstance(step, MaybeToTensor))
        resize: Callable[[Image.Image], Image.Image] = Compose(steps[:cut])
        return resize


def _read(model: Any, images: Tensor, *, ahead: int, last: bool) -> tuple[Tensor, Tensor]:
    maps = model.forward_features(images)
    features = model.forward_head(maps, pre_logits=True)
    if maps.ndim == 3:
        return features, maps[:, ahead:]
    return features, maps.flatten(1, 2) if last else flat(maps)


def _find(name: str) -> TimmFiles:
    rest = name.partition(":")[2]
    scheme, _, place = rest.partition(":")
    if scheme == "local-dir":
        folder = local_folder(place, name)
        if not (folder / CONFIG).is_file():
            raise MissingFiles(f"holds no {CONFIG}", where=str(folder), fix="give a folder in timm's format")
        weights = next((folder / file for file in WEIGHTS if (folder / file).is_file()), None)
        if weights is None:
            raise MissingFiles("holds no weights", where=str(folder), fix=f"put {WEIGHTS[0]} there")
        return _described(str(folder), folder / CONFIG, weights)
    if scheme == "hf-hub":
        config = from_hub(place, (CONFIG,), needs=NEEDS)
        return _described(rest, config, from_hub(place, WEIGHTS, needs=NEEDS, revision=config.parent.name))
    if not rest or ":" in rest:
        raise UserError(
            "names no model of timm",
            where=name,
            fix="write timm:NAME[.TAG], timm:hf-hub:ORG/REPO or timm:local-dir:PATH",
        )
    return _by_name(rest)


def _by_name(name: str) -> TimmFiles:
    with quiet():
        timm: Any = import_module("timm")
        cfg = timm.get_pretrained_cfg(name) if timm.is_model(name) else None
        if cfg is None or not cfg.hf_hub_id:
            raise UnknownName("timm model with weights on the hub", name, timm.list_pretrained())
    names = (cfg.hf_hub_filename,) if cfg.hf_hub_filename else WEIGHTS
    weights = from_hub(cfg.hf_hub_id, names, needs=NEEDS)
    about: dict[str, Any] = {"architecture": cfg.architecture or name.partition(".")[0], "model_args": {}}
    return TimmFiles(f"timm:{name}", name, int(cfg.num_classes), about, weights)


def _described(where: str, config: Path, weights: Path) -> TimmFiles:
    """A model with its own ``config.json``, as timm writes it."""
    try:
        read = parse_json(config.read_bytes())
        about: dict[str, Any] = {
            "architecture": str(read["architecture"]),
            "model_args": dict(read.get("model_args", {})),
        }
        classes = int(read["num_classes"] if "num_classes" in read else read["pretrained_cfg"]["num_classes"])
    except (OSError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"is not a configuration of timm ({gist(error)})", where=str(config)) from error
    if loading := [key for key in about["model_args"] if key.startswith("pretrained")]:
        raise UserError(
            f"model_args says how weights are read ({loading[0]}); retune reads them all",
            where=str(config),
            fix=f"take {loading[0]} out",
        )
    with quiet():
        timm: Any = import_module("timm")
        if not timm.is_model(about["architecture"]):
            raise UnknownName(
                "timm architecture", str(about["architecture"]), timm.list_models(), where=str(config)
            )
        # It decides how positions are fitted to pictures; told where it is not the architecture's own.
        fixed = bool((read.get("pretrained_cfg") or read).get("fixed_input_size", False))
        own = timm.get_pretrained_cfg(about["architecture"])
        if own is not None and fixed != own.fixed_input_size:
            about["fixed_input_size"] = fixed
    return TimmFiles(where, f"local-dir:{config.parent}", classes, about, weights)

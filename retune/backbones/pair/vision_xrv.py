"""Vision towers of torchxrayvision (Cohen et al., arXiv 2111.00595): trained on radiographs of one channel."""

from __future__ import annotations

from contextlib import redirect_stdout
from functools import cached_property
from io import StringIO
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from retune.backbones.files import digests, fingerprint
from retune.backbones.pair.vision import ImageTower, VisionTower, flat
from retune.backbones.quiet import quiet
from retune.errors import MissingFiles, UnknownName, UserError, gist, install

ADAPTER: Final = "pair vision of torchxrayvision/1"
"""Enters every fingerprint; goes up whenever this file would turn the same weights into other features."""

AUTOENCODER: Final = "resnetae-101-elastic"
_STAGES: Final = ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4")


class XrvVision(VisionTower):
    """A network of torchxrayvision up to its last feature map; an image's vector is the map's mean.

    torchxrayvision publishes its DenseNets as pickled Python objects, which can run any code when they
    are opened; only tensors are read here, so those need a file of tensors, made once.

    Args:
        name: ``xrv:NAME``, or ``xrv:NAME@FILE`` with the weights in a file: a ``state_dict`` saved by torch
            or as safetensors.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.weights_name, _, self._file = name.partition(":")[2].partition("@")

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of weights, architecture and this adapter."""
        about = {"adapter": ADAPTER, "network": self._network, "size": self.size}
        return fingerprint({**about, **digests({"weights": self.file})})

    @cached_property
    def size(self) -> int:
        """The resolution that the weights were trained at."""
        return int(self._about.get("input_resolution", self._about.get("resolution", 224)))

    def preprocess(self, image: Image.Image) -> Tensor:
        """The library's own centre crop and resizing, rounded to 256 levels; uint8 (S, S)."""
        steps = self._library.datasets
        grey = steps.normalize(np.asarray(image.convert("L")), 255)[None]
        small = steps.XRayResizer(self.size)(steps.XRayCenterCrop()(grey))[0]
        return torch.from_numpy(np.rint((small / 1024 + 1) * 127.5).clip(0, 255).astype(np.uint8))

    def build(self) -> ImageTower:
        """The tower with random weights."""
        return _tower(self._network, self._classifier())

    def load(self) -> ImageTower:
        """The tower with its weights, float32 and frozen."""
        model = self._classifier()
        try:
            state = _tensors(self.file)
            # torchxrayvision wraps its ResNets, and keeps thresholds of its findings beside the weights.
            wanted = {
                key.removeprefix("model."): value for key, value in state.items() if key != "op_threshs"
            }
            model.load_state_dict(wanted, strict=True)
        except Exception as error:
            raise UserError(
                f"is no state_dict of {self.weights_name}, or is damaged ({gist(error)})",
                where=str(self.file),
                fix=self._recipe,
            ) from error
        return _tower(self._network, model).float().eval().requires_grad_(False)

    @cached_property
    def file(self) -> Path:
        """The file of weights; downloaded by torchxrayvision if need be."""
        about = self._about
        if self._file:
            path = Path(self._file).expanduser()
            if not path.is_file():
                raise MissingFiles("there is no such file", where=str(path), fix=self._recipe)
            return path
        if self._network == "densenet121":
            raise UserError(
                "is published as a pickled Python object, which can run any code when it is opened",
                where=self.name,
                fix=self._recipe,
            )
        url = about["weights_url"]
        utils = self._library.utils
        kept: Path = Path(utils.get_cache_dir()).expanduser() / url.rpartition("/")[2]
        if kept.is_file():
            return kept
        try:
            kept.parent.mkdir(parents=True, exist_ok=True)
            with quiet(), redirect_stdout(StringIO()):
                utils.download(url, str(kept))
        except Exception as error:
            raise MissingFiles(
                f"its weights cannot be downloaded ({gist(error)})",
                where=self.name,
                fix=f"put {url} at {kept}",
            ) from error
        return kept

    @property
    def _recipe(self) -> str:
        """How to turn what torchxrayvision publishes into a file of tensors alone."""
        call = (
            "autoencoders.ResNetAE('101-elastic')"
            if self._network == "ResNetAE101"
            else f"models.get_model('{self.weights_name}')"
        )
        return (
            'if you trust it, run python -c "import torch, torchxrayvision as x; torch.save(x.'
            f"{call}.state_dict(), 'xrv.pt')\" and write xrv:{self.weights_name}@xrv.pt"
        )

    @cached_property
    def _about(self) -> dict[str, Any]:
        """What torchxrayvision knows of the weights."""
        xrv = self._library
        urls = xrv.models.model_urls
        known = {
            name: about for name, about in urls.items() if name.startswith(("densenet121-", "resnet50-"))
        }
        known[AUTOENCODER] = xrv.autoencoders.model_urls["101-elastic"]
        if self.weights_name not in known:
            raise UnknownName("model of torchxrayvision", self.weights_name, known, where=self.name)
        return dict(known[self.weights_name])

    @property
    def _network(self) -> str:
        return str(self._about.get("class", self.weights_name.partition("-")[0]))

    def _classifier(self) -> nn.Module:
        """The whole network as published, so that every weight of the file is asked for."""
        xrv = self._library
        if self._network == "ResNetAE101":
            model: nn.Module = xrv.autoencoders.ResNetAE101()
        elif self._network == "densenet121":
            model = xrv.models.DenseNet(num_classes=len(self._about["labels"]))
        else:
            from torchvision.models import resnet50

            # torchxrayvision's own class cannot be made without downloading.
            model = resnet50(num_classes=len(self._about["labels"]))
            model.conv1 = nn.Conv2d(1, 64, kernel_size=7, stride=2, padding=3, bias=False)
        return model

    @cached_property
    def _library(self) -> Any:
        with quiet():
            try:
                import torchxrayvision
            except ImportError as error:
                raise UserError("needs torchxrayvision", where=self.name, fix=install("xrv")) from error
        return torchxrayvision


def _tower(network: str, model: nn.Module) -> ImageTower:
    """The part of a network that makes the last feature map."""
    if network == "densenet121":
        stages = [model.get_submodule("features"), nn.ReLU()]
    else:
        stages = [model.get_submodule(stage) for stage in _STAGES]
    # Pixels 0..255 become -1024..1024.
    return ImageTower(nn.Sequential(*stages), _read, (0.5,), (1 / 2048,))


def _read(model: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
    patches = flat(model(images))
    return patches.mean(1), patches


def _tensors(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    # weights_only: a pickle that would run code is refused.
    state: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return state

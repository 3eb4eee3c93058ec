"""What a U-Net that is trained whole outlines, on the pictures that a transfer learns from: the papers' comparator.

    python tests/benchmarks/unet_reference.py [--transfer segmentation[:DATA]] [--set transfer.share=0.1] [--root DIR]
        [--encoder resnet50] [--weights imagenet|FOLDER] [--epochs 50] [--device cuda] [--out FILE.json]

Needs the extra ``dense``. It knows no features and no stream, so it is measured once for a transfer set, not once for a
run: ``unet-scratch``, or ``unet-imagenet`` where the weights are there (else it is skipped, and says why): those that the
package fetches, or a folder in timm's format, as ``python -m retune.backbones.pair.packaged`` writes one for
``--encoder tu-tf_efficientnet_lite0``. Loss,
optimiser, threshold, numbers and intervals are those of ``retune run --transfer``; pictures and masks go the way of the
backbone's preprocessing, as there. What a file of the same inputs already holds is not measured again. 50 epochs, as in
the papers, are for a GPU.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch.nn import functional

from retune.data.dataset import IntArray
from retune.progress import silent
from retune.runner.images import Lent, lend
from retune.runner.moments import Moments
from retune.runner.run import prepare
from retune.runner.spec import Spec
from retune.settings import parse_assignments
from retune.transfers.base import Decoder, Maps, Measurement, Task
from retune.transfers.decoders.trained import Trained, train
from retune.transfers.decoders.unet import package

MEAN, SD = 0.449, 0.226
"""Of ImageNet's pictures, over their three colours: a radiograph has one. A folder of weights has its own."""
STRIDE = 32
"""What a side of the pictures must be a multiple of."""


@dataclass(frozen=True)
class Pictures:
    """Pictures as maps of three features, a cell for each pixel."""

    lent: Lent
    rows: IntArray
    mean: float = MEAN
    sd: float = SD

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: torch.Tensor) -> torch.Tensor:
        with self.lent.view(self.rows[index.numpy()], frozenset({"pixels"})) as images:
            grey = images.pixels[torch.arange(len(images))].cpu()[:, None].float() / 255
        side = STRIDE * -(-grey.shape[-1] // STRIDE)
        if side != grey.shape[-1]:
            grey = functional.interpolate(grey, (side, side), mode="bilinear", align_corners=False)
        return ((grey - self.mean) / self.sd).expand(-1, 3, -1, -1)


def fitted(network: torch.nn.Module, epochs: int):
    """What learns in place of a decoder of features: the network, trained whole."""

    def learn(maps: Maps, task: Task) -> Decoder:
        train(network.to(task.device), maps, task.train, epochs=epochs, seed=task.seed)
        side = task.train.masks[np.arange(1)].shape[-1]
        return Trained("whole", network, (3, len(task.findings), maps[torch.arange(1)].shape[-1], side))

    return learn


def started(network: torch.nn.Module, folder: Path) -> tuple[float, float]:
    """Give the encoder the weights of a folder in timm's format; returns the mean and deviation it was trained with."""
    state = load_file(folder / "model.safetensors")
    wanted = network.encoder.model.state_dict().keys()
    network.encoder.model.load_state_dict({key: state[key] for key in wanted if key in state})
    about = json.loads((folder / "config.json").read_text(encoding="utf-8"))["pretrained_cfg"]
    return float(np.mean(about["mean"])), float(np.mean(about["std"]))


def main() -> None:
    """Measure it and print the numbers."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--transfer", default="segmentation")
    parser.add_argument("--backbone", default="phantom-clip")
    parser.add_argument("--set", action="append", default=[], dest="settings")
    parser.add_argument("--root")
    parser.add_argument("--encoder", default="resnet50")
    parser.add_argument("--weights")
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    name = f"unet-{'imagenet' if given.weights else 'scratch'}"
    folder = Path(given.weights) if given.weights not in (None, "imagenet") else None

    spec = Spec(
        strategy="ridge", transfer=given.transfer, backbone=given.backbone, root=given.root, seed=given.seed,
        device=given.device, settings=parse_assignments(given.settings),
    )  # fmt: skip
    plan = prepare(spec).plan
    asked, arranged = plan.parts.transfer, plan.transfer
    assert asked is not None
    assert arranged is not None
    about = {
        **asked.identity(), **arranged.identity(), "preprocessing": plan.parts.backbone.fingerprint, "name": name,
        "encoder": given.encoder, "epochs": given.epochs, "seed": given.seed,
    }  # fmt: skip
    key = hashlib.sha256(json.dumps(about, sort_keys=True, default=str).encode()).hexdigest()
    if given.out and given.out.exists() and json.loads(given.out.read_text(encoding="utf-8"))["key"] == key:
        print(f"{given.out} holds this {name} already")
        return

    moments = Moments.of(plan, silent)
    assert moments is not None
    task, start = moments.task, time.perf_counter()
    torch.manual_seed(given.seed)
    try:
        fetched = None if folder else given.weights
        network = package().Unet(given.encoder, encoder_weights=fetched, classes=len(task.findings))
        mean, sd = started(network, folder) if folder else (MEAN, SD)
    except (OSError, RuntimeError) as error:
        print(
            f"{name} is skipped: its weights cannot be had ({type(error).__name__}: {str(error).splitlines()[0]})"
        )
        return
    lent = lend(
        plan.parts.backbone, arranged.dataset, arranged.every, frozenset({"pixels"}), arranged.content,
        skip_bad_images=False, progress=silent,
    )  # fmt: skip
    moments.measurement.transfer.learn = fitted(network, given.epochs)
    measure(
        moments.measurement, {split: Pictures(lent, rows, mean, sd) for split, rows in moments.rows.items()}
    )
    numbers, document = moments.measurement.numbers(), moments.document()
    seconds = time.perf_counter() - start
    counts = sum(p.numel() for p in network.parameters())
    print(f"{name}, {given.encoder}, {counts:,} parameters, {given.epochs} epochs of {len(task.train):,} images of "
          f"{asked.source.name}: {seconds:.0f} s")  # fmt: skip
    rows = {key: rows[0] for key, rows in numbers["refit"].items()}
    rows |= {f"{who}: {key}": of for who, every in numbers["trivial"].items() for key, of in every.items()}
    print(f"{'':22}" + "".join(f"{finding[:11]:>12}" for finding in task.findings))
    for key_, values in rows.items():
        print(f"{key_:22}" + "".join(f"{'-' if v is None or v != v else f'{v:.3f}':>12}" for v in values))
    if given.out:
        told = {"key": key, "about": about, "seconds": seconds, "parameters": counts, **document}
        given.out.write_text(json.dumps(told, indent=1, default=str), encoding="utf-8")


def measure(measurement: Measurement, maps: dict[str, Pictures]) -> None:
    """One moment, which is all there is: nothing is learnt afterwards, so before and after are the same."""
    measurement.measure(maps["train"], maps["valid"], maps["test"])
    measurement.repeat()


if __name__ == "__main__":
    main()

"""Decoders that are trained: the papers' sizes, the papers' loss, and what is kept of a training."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch

from retune.errors import MissingPackage
from retune.transfers.base import Part, Task
from retune.transfers.decoders.setr import setr
from retune.transfers.decoders.trained import Trained, mixed_loss
from retune.transfers.decoders.unet import unet
from retune.transfers.segmentation import Segmentation

N, SIZE, GRID, DIM = 24, 16, 2, 5


@pytest.fixture(scope="module")
def part() -> tuple[Part, torch.Tensor]:
    rng = np.random.default_rng(0)
    truth = np.zeros((N, 2, SIZE, SIZE), dtype=bool)
    truth[::2, 0, 4:12, 4:12] = True
    truth[::3, 1, :8, :8] = True
    known = np.ones((N, 2), dtype=bool)
    known[5:9, 1] = known[0] = False
    truth &= known[:, :, None, None]
    maps = torch.from_numpy(rng.normal(0, 0.3, (N, DIM, GRID, GRID))).float()
    maps[:, :2] += torch.nn.functional.adaptive_avg_pool2d(torch.from_numpy(truth).float(), GRID)
    return Part(truth, known, truth.any((2, 3)), np.arange(N)), maps


def parameters(network: torch.nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def test_setr_is_as_large_as_adaptors() -> None:
    assert parameters(setr(768, 1, 16, 128)) == 10_401_409


def test_the_published_u_net_is_as_large_as_published() -> None:
    smp = pytest.importorskip("segmentation_models_pytorch", reason="extra dense is not installed")
    # What smp.Unet("resnet50") puts upon the stages of its encoder.
    stages, widths = (3, 64, 256, 512, 1024, 2048), (256, 128, 64, 32, 16)
    theirs = smp.decoders.unet.decoder.UnetDecoder(stages, widths)
    assert parameters(theirs) + parameters(smp.base.SegmentationHead(16, 1)) == 9_013_073
    # What the skips of 1024, 512, 256 and 64 channels bring into the first convolution of four stages.
    skips = 9 * (1024 * 256 + 512 * 128 + 256 * 64 + 64 * 32)
    assert parameters(unet(2048, 1, 4, 128)) == 9_013_073 - skips


def test_the_loss_by_hand() -> None:
    logits, masks = torch.tensor([[[[2.0, -1.0], [0.5, 0.0]]]]), torch.tensor([[[[1, 0], [0, 1]]]]).bool()
    p = 1 / (1 + np.exp(-np.array([2, -1, 0.5, 0])))
    right = np.where([1, 0, 0, 1], p, 1 - p)
    focal = np.mean((1 - right) ** 2 * -np.log(right))
    dice = (2 * (p[0] + p[3]) + 1) / (p.sum() + 2 + 1)
    known = torch.ones(1, 1, dtype=torch.bool)
    found = float(mixed_loss(logits, masks, known))
    assert found == pytest.approx(10 * focal - np.log(dice), abs=1e-6)
    # A second finding is averaged in, a second image on which nobody looked for it is not.
    twice = mixed_loss(
        logits.repeat(2, 2, 1, 1), masks.repeat(2, 2, 1, 1), torch.tensor([[True, True], [False, False]])
    )
    assert float(twice) == pytest.approx(found, abs=1e-6)


@pytest.mark.parametrize("kind", ["setr", "unet"])
def test_a_training_is_the_same_twice_and_goes_on_where_it_was(kind: str, part) -> None:
    if kind == "unet":
        pytest.importorskip("segmentation_models_pytorch", reason="extra dense is not installed")
    images, maps = part
    task = Task(("Lung Lesion", "Edema"), images, images, images, seed=3, replicates=5, level=0.95)
    whole, resumed = (Segmentation(size=SIZE, decoder=kind, epochs=1).begin(task) for _ in range(2))
    before = torch.get_rng_state()
    whole.measure(maps, maps, maps)
    assert torch.equal(torch.get_rng_state(), before)
    resumed.load({key: value.clone() for key, value in whole.state().items()})
    later = [maps.roll(1, dims=1)] * 3
    for measurement in (whole, resumed):
        measurement.measure(*later)
    ours, theirs = whole.arrays(), resumed.arrays()
    assert all(ours[key].tobytes() == theirs[key].tobytes() for key in ours)
    # The decoder that was kept is not the one that was trained on what the maps have become.
    assert not np.array_equal(ours["presence"][0, 1], ours["presence"][1, 1])
    assert any(f"{kind} has " in note for note in whole.numbers()["notes"])


def test_an_image_is_judged_without_those_beside_it(part) -> None:
    images, maps = part
    decoder = Trained.fit("setr", maps, images, epochs=1, seed=3, device="cpu")
    said = decoder.predict(maps)
    assert said.shape == (N, 2, SIZE, SIZE)
    torch.testing.assert_close(decoder.predict(maps[:1]), said[:1])
    assert not decoder.alike(Trained("setr", decoder.network, (3, *decoder.made[1:])))


def test_a_package_that_is_missing_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "segmentation_models_pytorch", None)
    with pytest.raises(MissingPackage, match=r"segmentation-models-pytorch.*dense"):
        Segmentation(decoder="unet")

"""Labels and images that are not there: what cannot be learnt or read is named, refused or left out, never counted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file
from sklearn.metrics import roc_auc_score

import retune
from retune.cli.main import main

LABELS = ("Edema", "Pleural Effusion", "Pneumonia")
N = 48
TEST = [k for k in range(N) if k % 4 == 3]
TRAIN = [k for k in range(N) if k % 4 != 3]


def usual() -> np.ndarray:
    """Targets of which each label has both classes, in training and in test."""
    return (np.random.default_rng(4).random((N, len(LABELS))) < 0.5).astype(int)


def hospital(
    folder: Path, targets: np.ndarray, pictures: list[int] | None = None, size: int = 8
) -> tuple[Path, str]:
    """A table of one image a patient, and features of some of them."""
    folder.mkdir()
    lines = [",".join(("image", "patient", "split", *LABELS))]
    for k, row in enumerate(targets.tolist()):
        split = "test" if k in TEST else "train"
        lines.append(",".join((f"{k}.png", f"p{k}", split, *("" if v < 0 else str(v) for v in row))))
        Image.new("L", (9, 9), 5 * k).save(folder / f"{k}.png")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    have = list(range(N)) if pictures is None else pictures
    features = np.random.default_rng(1).normal(size=(len(have), size)).astype(np.float32)
    np.savez(folder.parent / "have.npz", image_ids=[f"{k}.png" for k in have], image_features=features)
    return folder, f"features:{folder.parent / 'have.npz'}"


def words(tmp_path: Path, root: Path, backbone: str, *more: str) -> list[str]:
    start = ["run", "--data", "csv", "--root", str(root), "--backbone", backbone, "--replicates", "10"]
    usual = ["--strategy", "ridge", "--set", "start=zeros", "--steps", "2", "--out", str(tmp_path / "out")]
    return [*start, *usual, *more]


def refused(capsys: pytest.CaptureFixture[str], tmp_path: Path, asked: list[str]) -> str:
    """The one line that a run ends with, which leaves nothing."""
    assert main(asked) == 2
    told = capsys.readouterr().err.strip().splitlines()
    assert sum("error" in line for line in told) == 1
    assert not (tmp_path / "out").exists()
    return told[-1]


FIRST = next(k for k in TRAIN if usual()[k].any())


@pytest.mark.parametrize(
    ("pictures", "line"),
    [
        (TRAIN, "none of the 12 test images can be read"),
        (TEST, "none of the 36 training images can be read"),
        ([*TEST, FIRST], "2 steps need at least 2 training patients, the data set has 1 once 35 images that"),
    ],
)
def test_what_is_left_after_skipping_meets_the_same_conditions(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], pictures: list[int], line: str
) -> None:
    root, backbone = hospital(tmp_path / "data", usual(), pictures)
    assert line in refused(capsys, tmp_path, words(tmp_path, root, backbone, "--skip-bad-images"))


def test_no_positive_training_label_is_left(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    targets = usual()
    absent = [k for k in TRAIN if k % 3]
    targets[absent] = 0
    root, backbone = hospital(tmp_path / "data", targets, [*absent, *TEST])
    told = refused(capsys, tmp_path, words(tmp_path, root, backbone, "--skip-bad-images"))
    assert "has no positive training label once 12 images that cannot be read are left out" in told


def test_no_label_that_can_be_learnt_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    targets = usual()
    targets[np.ix_(TRAIN, [0])], targets[np.ix_(TRAIN, [1])], targets[np.ix_(TRAIN, [2])] = 1, 0, 1
    root, backbone = hospital(tmp_path / "data", targets)
    told = refused(capsys, tmp_path, words(tmp_path, root, backbone))
    assert "no label has both a positive and a negative training image" in told


def never_positive(targets: np.ndarray) -> None:
    targets[TRAIN, 1] = 0


def never_negative(targets: np.ndarray) -> None:
    """Known where present only: absence was not written down."""
    targets[TRAIN, 1] = np.where(targets[TRAIN, 1] == 1, 1, -1)


@pytest.mark.parametrize("change", [never_positive, never_negative])
def test_a_label_of_one_class_in_training_is_named_and_counts_at_the_end_only(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    change: Callable[[np.ndarray], None],
) -> None:
    targets = usual()
    change(targets)
    root, backbone = hospital(tmp_path / "data", targets)
    assert main(words(tmp_path, root, backbone)) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "no positive or no negative training image" in told
    assert "transfer): Pleural Effusion" in told
    result = retune.Result.read(tmp_path / "out")
    assert result.dataset.unlearnable_labels == ["Pleural Effusion"]
    one = result.labels.index("Pleural Effusion")
    assert (result.first[one], result.thresholds[one], result.forgetting[one]) == (0, None, None)
    arrays = load_file(tmp_path / "out" / "scores.safetensors")
    by_hand = np.array(
        [[roc_auc_score(arrays["targets"][:, c], s[:, c]) for c in range(3)] for s in arrays["scores"]]
    )
    first = np.array(result.first)
    learnt = [[c for c in range(3) if 0 < first[c] <= i] for i in (1, 2)]
    wanted = {
        "final_auc": by_hand[-1].mean(),
        "average_auc": np.mean([by_hand[i, of].mean() for i, of in enumerate(learnt, 1) if of]),
        "forgetting": np.mean([by_hand[1, c] - by_hand[2, c] for c in learnt[0]]),
        "backward_transfer": np.mean([by_hand[2, c] - by_hand[1, c] for c in learnt[0]]),
    }
    for name, value in wanted.items():
        assert result.metrics[name].value == pytest.approx(value, abs=1e-7), name
    # The only label of the second experience is the one that cannot be learnt.
    assert first.tolist() == [1, 1, 0]
    assert result.metrics["forward_transfer"].value is None


def test_a_label_spoilt_by_skipping_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    targets = usual()
    pictures = [k for k in range(N) if not targets[k, 1]]
    root, backbone = hospital(tmp_path / "data", targets, pictures)
    assert main(words(tmp_path, root, backbone, "--skip-bad-images")) == 0
    told = " ".join(capsys.readouterr().out.split())
    for split in ("train", "test"):
        assert (
            f"No positive {'training' if split == 'train' else split} image that can be read is left of: Pl"
            in told
        )
    assert "hold one class only: Pleural Effusion" in told
    assert "transfer): Pleural Effusion" in told


SCORER = """
import torch
from retune import Strategy

class Mine(Strategy):
    name = "mine"
    needs = frozenset({"features"})
    def fit(self, experience):
        pass
    def score(self, images):
        return SCORES
"""


def scored(tmp_path: Path, expression: str, **options: Any) -> tuple[retune.Result, dict[str, np.ndarray]]:
    root, backbone = hospital(tmp_path / "data", usual())
    (tmp_path / "mine.py").write_text(SCORER.replace("SCORES", expression))
    folder = tmp_path / "out"
    result = retune.run(
        strategy=str(tmp_path / "mine.py"), data="csv", root=str(root), backbone=backbone, steps=2,
        replicates=10, out=folder, **options,
    )  # fmt: skip
    return result, load_file(folder / "scores.safetensors")


@pytest.mark.parametrize("of", ["double", "float", "half", "bfloat16"])
def test_scores_are_ranked_in_the_precision_in_which_they_are_given(tmp_path: Path, of: str) -> None:
    """Differences beyond the 24 bits of float32 are differences; ties in the precision given are ties."""
    result, arrays = scored(tmp_path, f"(1 + images.features[:, :3].double() * 1e-9).{of}()")
    assert arrays["scores"].dtype == (np.float64 if of == "double" else np.float32)
    features = np.load(tmp_path / "have.npz")["image_features"][TEST, :3].astype(np.float64)
    for c in range(3):
        wanted = roc_auc_score(arrays["targets"][:, c], features[:, c]) if of == "double" else 0.5
        assert result.auc_matrix[-1][c] == pytest.approx(wanted, abs=1e-12)
        assert result.auc_low[-1][c] != 0.5 or of != "double"
        # The threshold is one of the scores: frozen in another precision it would miss the image it is of.
        assert result.f1_matrix[-1][c] is not None


@pytest.mark.parametrize("of", ["half", "bfloat16"])
def test_half_precision_comes_back_as_the_same_numbers(tmp_path: Path, of: str) -> None:
    import torch

    _, arrays = scored(tmp_path, f"images.features[:, :3].{of}()")
    features = torch.from_numpy(np.load(tmp_path / "have.npz")["image_features"][TEST, :3])
    np.testing.assert_array_equal(arrays["scores"][-1], getattr(features, of)().float().numpy())


def test_doubles_come_back_from_a_checkpoint(tmp_path: Path) -> None:
    """A run that stops after its first experience ends with the scores of one that does not."""
    whole, arrays = scored(tmp_path, "1 + images.features[:, :3].double() * 1e-9")
    root, backbone = tmp_path / "data", f"features:{tmp_path / 'have.npz'}"
    again = tmp_path / "again"
    stop = {"learning": 1}

    def progress(stage: str, done: int, total: int) -> None:
        if stop.get(stage) == done:
            raise KeyboardInterrupt

    asked: dict[str, Any] = {
        "strategy": str(tmp_path / "mine.py"), "data": "csv", "root": str(root), "backbone": backbone, "steps": 2,
        "replicates": 10, "out": again,
    }  # fmt: skip
    with pytest.raises(KeyboardInterrupt):
        retune.run(**asked, progress=progress)
    resumed = retune.run(**asked)
    assert resumed.auc_matrix == whole.auc_matrix
    np.testing.assert_array_equal(load_file(again / "scores.safetensors")["scores"], arrays["scores"])

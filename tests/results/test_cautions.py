"""What must stand above the numbers does."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

import retune
from retune.cli.main import main
from retune.results.cautions import batches, cautions
from retune.results.explain import explain


def hospital(folder: Path, *, same: bool) -> Path:
    """A table of 24 grey squares, half of them test images; perhaps of one and the same picture."""
    folder.mkdir()
    lines = ["image,patient,split,Edema,Efusion"]
    for k in range(24):
        Image.new("L", (9, 9), 7 if same else 10 * k).save(folder / f"{k}.png")
        lines.append(f"{k}.png,p{k},{('train', 'test')[k % 2]},{k % 3 // 2},0")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.mark.parametrize("same", [True, False])
def test_cautions_are_printed_and_recorded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], same: bool
) -> None:
    root = hospital(tmp_path / "data", same=same)
    out = tmp_path / "out"
    words = ["run", "--data", "csv", "--root", str(root), "--steps", "1", "--strategy", "zero-shot"]
    assert main([*words, "--replicates", "20", "--out", str(out)]) == 0
    told = " ".join(capsys.readouterr().out.split())
    result = retune.Result.read(out)
    assert result.backbone.synthetic
    assert "on real radiographs its numbers mean nothing" in told
    assert result.dataset.choices == {"split": "by column 'split'", "table": "labels.csv"}
    said = [f"Chosen {what}: {choice}" for what, choice in result.dataset.choices.items()]
    assert result.dataset.notes == [*said, "Columns of labels.csv not used: Efusion"]
    assert "not used: Efusion" in told
    # Computed pictures among them change nothing of that; computed pictures alone do.
    for partly, word in ((True, "partly synthetic"), (False, "synthetic")):
        made = {"synthetic": True, "partly_synthetic": partly}
        mixed = result.model_copy(update={"dataset": result.dataset.model_copy(update=made)})
        assert ("mean nothing" in " ".join(cautions(mixed))) is partly
        assert f" of csv ({word} pictures)" in explain(mixed)["What was run"][0]
    assert result.dataset.repeated_images == (12 if same else 0)
    assert ("byte for byte" in told) is same
    assert "The test images are of 12 patients: intervals over fewer than 30 are too narrow" in told


def test_features_that_are_looked_up_are_said_to_be(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = ["--set", "data.images=120", "--set", "data.size=64"]
    file = tmp_path / "features.safetensors"
    assert main(["embed", *settings, "--prompts", "chexzero", "--out", str(file)]) == 0
    words = ["run", *settings, "--strategy", "zero-shot", "--prompts", "chexzero", "--replicates", "20"]
    assert main([*words, "--backbone", f"features:{file}", "--out", str(tmp_path / "out")]) == 0
    assert "looked up by image id" in capsys.readouterr().out
    assert retune.Result.read(tmp_path / "out").backbone.looked_up


def test_a_batch_larger_than_an_experience_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, out = hospital(tmp_path / "data", same=False), tmp_path / "out"
    words = ["run", "--data", "csv", "--root", str(root), "--steps", "1", "--replicates", "20"]
    assert main([*words, "--strategy", "re-tune/paper", "--set", "batch_size=13", "--out", str(out)]) == 0
    assert main(["report", str(out), "--out", str(tmp_path / "report")]) == 0
    result = retune.Result.read(out)
    said = {
        "terminal": capsys.readouterr().out,
        "result": "\n".join(result.cautions),
        "suite": "\n".join(cautions(result)),
        "report": (tmp_path / "report" / "report.html").read_text(),
    }
    line = (
        "A batch of re-tune/paper (13 images) is larger than 1 of 1 experiences (12 images at most): a pass"
    )
    assert [where for where, text in said.items() if line not in " ".join(text.split())] == []
    as_many = result.strategy.model_copy(update={"settings": {"batch_size": 12}})
    assert not batches(result.model_copy(update={"strategy": as_many}))

"""``retune prompts`` as a user types it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from retune.backbones.load import load_backbone
from retune.cli.main import main
from retune.data.source import DataSource
from retune.prompts import load

SETTINGS = {"images": 240, "size": 64}
SMALL = ["--set", "images=240", "--set", "data.size=64"]
SOURCE = {"kind": "hand-written", "model": "A. Person", "instruction": "Write.", "date": "2026-11-21"}


def call(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(["prompts", *arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_alone_it_lists_the_banks(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call(capsys)
    assert code == 0
    assert re.search(r"^chexzero +62 prompts", out, re.MULTILINE)
    _, as_json, _ = call(capsys, "--json")
    names = [row["name"] for row in json.loads(as_json)["prompts"]]
    assert names == ["biovil", "chexzero", "language-model", "lay", "long-tail"]


@pytest.mark.parametrize("command", ["generate", "lint", "show", ""])
def test_help_imports_nothing_heavy(command: str) -> None:
    code = (
        "import sys\nfrom retune.cli.main import main\n"
        f"done = main(['prompts', *{[command] if command else []!r}, '--help'])\n"
        "heavy = ('torch', 'transformers', 'huggingface_hub', 'pandas', 'sklearn')\n"
        "sys.exit(done or any(m in sys.modules for m in heavy))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0
    assert "Usage" in done.stdout


def test_lint_of_a_clean_bank(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(capsys, "lint", "chexzero") == (0, "chexzero: nothing to complain of\n", "")
    assert call(capsys, "lint", "chexzero", "--json") == (0, "[]\n", "")


def test_lint_tells_row_and_hint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mine.jsonl"
    rows = [("positive", "No ede\x1b[2Jma."), ("negative", "No ede\x1b[2Jma at all.")]
    path.write_text(
        "".join(
            json.dumps({"finding": "Ede\x1b[2Jma", "polarity": p, "text": t, "source": SOURCE}) + "\n"
            for p, t in rows
        )
    )
    code, out, err = call(capsys, "lint", str(path))
    assert (code, err) == (1, "")
    assert "mine.jsonl" in out
    assert "3 complaints" in out
    assert "Ede\ufffd[2Jma" in out
    assert "\x1b" not in out
    code, out, _ = call(capsys, "lint", str(path), "--json")
    found = json.loads(out)
    assert code == 1
    assert {(c["file"], c["row"], c["finding"]) for c in found} == {
        (str(path), row, "Ede\x1b[2Jma") for row in (1, 2)
    }
    assert found[1]["what"] == "the positive prompt negates"


def test_lint_of_what_is_no_bank(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = call(capsys, "lint", "nothing.jsonl")
    assert (code, err) == (2, "error: nothing.jsonl: no such prompt bank; check the path\n")


@pytest.fixture(scope="module")
def by_hand() -> tuple[Any, torch.Tensor, Any]:
    """Validation images of phantom, encoded without the feature store, and their targets."""
    dataset = DataSource.make("phantom", None, SETTINGS).read()
    backbone = load_backbone("phantom-clip")
    rows = np.flatnonzero(dataset.split == "valid")
    pixels = torch.stack([backbone.preprocess(image) for image in dataset.images.load(rows)])  # type: ignore[arg-type]
    images = torch.nn.functional.normalize(backbone.encode_images(pixels), dim=-1)
    return dataset.targets[rows], images, (dataset.labels, backbone)


def test_show_scores_every_prompt_on_validation_images(
    by_hand: tuple[Any, torch.Tensor, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    targets, images, (labels, backbone) = by_hand
    code, out, _ = call(capsys, "show", "language-model", *SMALL, "--finding", "Pleural Effusion", "--json")
    shown = json.loads(out)
    assert code == 0
    assert (shown["dataset"], shown["images"]) == ("phantom", len(targets))
    (finding,) = shown["findings"]
    y = targets[:, labels.index("Pleural Effusion")]
    known = ~np.isnan(y)
    assert (finding["present"], finding["absent"]) == ((y == 1).sum(), (y == 0).sum())
    bank, means = load("language-model"), {}
    aucs: dict[str, list[float]] = {"positive": [], "negative": []}
    for prompt in finding["prompts"]:
        aucs[prompt["polarity"]].append(prompt["auc"])
    for polarity, sign in (("positive", 1), ("negative", -1)):
        texts = bank.texts("Pleural Effusion", polarity)  # type: ignore[arg-type]
        vectors = torch.nn.functional.normalize(backbone.encode_texts(texts), dim=-1)
        means[polarity] = images @ torch.nn.functional.normalize(vectors.mean(0), dim=0)
        expected = {
            text: roc_auc_score(y[known], sign * (images @ vector).numpy()[known])
            for text, vector in zip(texts, vectors, strict=True)
        }
        found = {p["text"]: p["auc"] for p in finding["prompts"] if p["polarity"] == polarity}
        assert found == pytest.approx(expected, abs=1e-3)
        assert aucs[polarity] == sorted(aucs[polarity], reverse=True)
    difference = (means["positive"] - means["negative"]).numpy()
    assert finding["auc"] == pytest.approx(roc_auc_score(y[known], difference[known]), abs=1e-3)


@pytest.mark.parametrize("width", ["80", "120"])
def test_show_as_a_table(
    width: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", width)
    code, out, _ = call(capsys, "show", "chexzero", *SMALL)
    assert code == 0
    assert max(map(len, out.splitlines())) <= int(width)
    assert re.search(
        r"^ *(\.\d{3}|1\.00|-) +- +no edema$", re.sub(r" +$", "", out, flags=re.MULTILINE), re.MULTILINE
    )
    assert re.search(r"Edema +\d+ have it, \d+ have not", out)
    assert "Without a label in phantom: Infiltration, Mass" in out


def test_a_finding_without_labels_or_without_negatives(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mine.jsonl"
    rows = [("Edema", "Pulmonary edema."), ("Rib Notching", "Rib notching.")]
    path.write_text(
        "".join(
            json.dumps({"finding": f, "polarity": "positive", "text": t, "source": SOURCE}) + "\n"
            for f, t in rows
        )
    )
    code, out, _ = call(capsys, "show", str(path), *SMALL, "--json")
    shown = json.loads(out)
    assert code == 0
    assert shown["unlabelled"] == ["Rib Notching"]
    (edema,) = shown["findings"]
    assert edema["auc"] == edema["prompts"][0]["auc"]
    code, out, _ = call(capsys, "show", str(path), *SMALL, "--finding", "Rib Notching")
    assert code == 0
    assert "unknown in every image" in out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["show", "none"], "unknown prompt bank 'none'"),
        (["show", "chexzero", "--finding", "Edem"], "did you mean Edema"),
        (["show", "chexzero", "--backbone", "none"], "unknown backbone 'none'"),
        (["show", "chexzero", "--set", "colour=red"], "unknown setting 'colour'"),
    ],
)
def test_mistakes_of_show(words: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = call(capsys, *words, *SMALL)
    assert (code, out) == (2, "")
    assert told in err
    assert err.count("\n") == 1

"""From --data, --root and settings to tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from retune.data.readers.phantom import Phantom
from retune.data.source import DataSource, parse_roots
from retune.errors import UserError


def hospital(folder: Path, n: int = 12) -> Path:
    """A table of one's own, with as many grey squares."""
    folder.mkdir(parents=True)
    lines = ["image,patient,split,Edema,Hernia"]
    for k in range(n):
        Image.new("L", (9, 9), 20 * k).save(folder / f"{k}.png")
        lines.append(f"{k}.png,p{k},{('train', 'test')[k % 2]},{k % 3 // 2},{('0', '1', '-1', '')[k % 4]}")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    return folder


def test_one_data_set_is_itself() -> None:
    data = DataSource.make("phantom", None, {"images": 40}).read()
    assert data.name == "phantom"
    assert data.fingerprint == Phantom(images=40).read(None).fingerprint


def test_several_become_one_and_keep_their_settings(tmp_path: Path) -> None:
    root = hospital(tmp_path / "csv")
    source = DataSource.make("csv,phantom", {"csv": root}, {"phantom.images": "50", "uncertain": "ones"})
    assert source.name == "csv,phantom"
    assert source.settings["phantom"]["images"] == 50
    assert source.settings["csv"]["uncertain"] == "ones"
    data = source.read()
    assert len(data) == 62
    own = data.columns["dataset"] == "csv"
    known = {label for c, label in enumerate(data.labels) if not np.isnan(data.targets[own, c]).all()}
    assert known == {"Edema", "Hernia"}
    assert np.isnan(data.targets[~own, data.labels.index("Hernia")]).all()


@pytest.mark.parametrize("below", [True, False], ids=["a folder of each name", "the folder itself"])
def test_one_root_serves_several(tmp_path: Path, below: bool) -> None:
    root = hospital(tmp_path / "csv")
    source = DataSource.make("csv,phantom", root.parent if below else root, {"phantom.images": 20})
    assert len(source.read()) == 32


def test_policies_decide_what_uncertain_and_blank_labels_are(tmp_path: Path) -> None:
    root = hospital(tmp_path / "csv")
    unsure, blank = np.arange(12) % 4 == 2, np.arange(12) % 4 == 3
    for uncertain, value in (("ignore", np.nan), ("zeros", 0), ("ones", 1)):
        for unmentioned, other in (("ignore", np.nan), ("zeros", 0)):
            data = DataSource.make("csv", root, uncertain=uncertain, blank=unmentioned).read()  # type: ignore[arg-type]
            hernia = data.targets[:, data.labels.index("Hernia")]
            np.testing.assert_array_equal(hernia[unsure], np.full(3, value, np.float32))
            np.testing.assert_array_equal(hernia[blank], np.full(3, other, np.float32))


@pytest.mark.parametrize(
    ("data", "options", "words"),
    [
        ("phantom", {"root": "x"}, "--root: data set phantom has no files"),
        ("phantom", {"uncertain": "ones"}, "--uncertain: phantom has no uncertain labels"),
        ("nih,chexpert", {"uncertain": "ones", "given": {"uncertain": "zeros"}}, "data.uncertain says zeros"),
        ("phantom,phantom", {}, "--data: phantom is named more than once"),
        ("phantom,nihh", {}, "did you mean nih"),
        ("phantom", {"given": {"imagse": 4}}, "did you mean images"),
        ("nih,chexpert", {"given": {"phantom.images": 4}}, "unknown setting 'phantom.images'"),
        ("nih,chexpert", {"root": {"nihh": "x"}}, "did you mean nih"),
        ("nih,chexpert", {"root": "/no/such"}, "--root nih=DIR --root chexpert=DIR"),
    ],
)
def test_mistakes(data: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError) as caught:
        DataSource.make(data, **{"root": None, **options})
    assert words in str(caught.value)


def test_a_missing_root_names_the_data_set() -> None:
    with pytest.raises(UserError, match=r"--root DIR is needed.*'nih'"):
        DataSource.make("nih", None).read()


@pytest.mark.parametrize(
    ("texts", "data", "roots"),
    [
        (None, "nih", None),
        (["/a"], "nih", "/a"),
        (["nih=/a", "chexpert=/b"], "chexpert, nih", {"nih": "/a", "chexpert": "/b"}),
        (["nih=/a", "chexpert=/b"], None, {"nih": "/a", "chexpert": "/b"}),
        (["/odd=name"], "nih", "/odd=name"),
    ],
)
def test_roots(texts: list[str] | None, data: str, roots: Any) -> None:
    assert parse_roots(texts, data) == roots


def test_two_bare_roots_are_refused() -> None:
    with pytest.raises(UserError, match="--root NAME=DIR"):
        parse_roots(["/a", "/b"], "nih,chexpert")

"""The tutorials run from their first line to their last, each in an empty folder, on fewer and smaller pictures."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
from PIL import Image

TUTORIALS = sorted((Path(__file__).parents[1] / "tutorials").glob("*.py"))
SMALLER = {
    "seeds=3": "seeds=1",
    "seeds=2": "seeds=1",
    'settings={"data.images": 1200}': 'settings={"data.images": 120, "data.size": 64}, replicates=20, jobs=1',
    "(images=1200)": "(images=120, size=64)",
    "images=800": "images=200, size=64",
}


@pytest.mark.parametrize("tutorial", TUTORIALS, ids=lambda file: file.stem)
def test_it_runs_and_draws(
    tutorial: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = tutorial.read_text()
    changed = [old for old in SMALLER if old in text]
    assert changed
    for old in changed:
        text = text.replace(old, SMALLER[old])
    file = tmp_path / tutorial.name
    file.write_text(text)
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(file))
    drawn = sorted(path.name for path in tmp_path.glob("*.png"))
    assert drawn
    for name in drawn:
        with Image.open(name) as picture:
            assert min(picture.size) > 100
    told = capsys.readouterr().out
    for word in ("FAILED", "nan to nan"):
        assert word not in told


def test_each_stands_in_the_readme_of_its_room() -> None:
    root = TUTORIALS[0].parents[1]
    rooms = [root / "README.md", *root.glob("*/README.md"), *root.glob("retune/*/README.md")]
    shown = "".join(room.read_text() for room in rooms)
    assert [tutorial.name for tutorial in TUTORIALS if f"tutorials/{tutorial.name}" not in shown] == []

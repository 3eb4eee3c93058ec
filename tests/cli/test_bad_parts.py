"""A part of one's own that fails is told in one line, whatever it is asked; nothing is written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from retune.cli.main import main
from retune.data.source import DataSource
from retune.errors import UserError
from retune.scaffold import starting_point

SCENARIO = '''"""Cuts nothing."""
from dataclasses import dataclass
from retune import Scenario
@dataclass
class Mine(Scenario):
    name = "mine"
    def stream(self, dataset, seed):
        return {}["site"]
'''
READER = '''"""Reads nothing."""
from dataclasses import dataclass
import numpy as np
from retune import Dataset, Reader
class Pictures:
    def load(self, rows, at_least=None):
        raise OSError("gone")
    def keys(self, rows):
        return {}["key"]
    def exists(self, rows):
        return np.ones(len(rows), bool)
    def describe(self, row):
        return str(row)
@dataclass
class Mine(Reader):
    name = "mine"
    needs_root = False
    source = "me"
    licence = "mine"
    labels = ("Edema", "Pneumonia")
    def read(self, root):
        names, targets = np.arange(60).astype(str), np.arange(120).reshape(60, 2) // 3 % 2
        split = np.where(np.arange(60) % 4, "train", "test")
        return Dataset(self.name, self.labels, names, names, split, targets.astype(np.float32), Pictures())
'''
BACKBONE = starting_point("mine", "two-towers")
STRATEGY = """
from retune import Strategy
class Mine(Strategy):
    name = "mine"
    needs = frozenset({"features"})
    def fit(self, experience):
        pass
    def score(self, images):
        return images.features[:, :1]
"""
INIT = '    def __post_init__(self):\n        raise ValueError("never")\n'


def _with(text: str, old: str, new: str) -> str:
    assert old in text
    return text.replace(old, new)


@pytest.mark.parametrize(
    ("verb", "text", "words"),
    [
        ("run --scenario", SCENARIO, "scenario mine: failed in stream: KeyError: 'site' (mine.py, line 8)"),
        (
            "run --scenario",
            _with(SCENARIO, '{}["site"]', "3"),
            "scenario mine: stream gave int, not a Stream",
        ),
        (
            "run --scenario",
            _with(SCENARIO, "    def stream", INIT + "    def stream"),
            "scenario mine: failed in __init__: ValueError: never (mine.py, line 8)",
        ),
        ("run --scenario", _with(SCENARIO, '    name = "mine"\n', ""), "mine.py: Mine lacks name"),
        (
            "run --scenario",
            _with(SCENARIO, 'return {}["site"]', "import retune; return retune.Stream(dataset, (1, 2), [])"),
            "scenario mine: failed in stream, which gave what is no stream: AttributeError",
        ),
        (
            "run --backbone",
            _with(BACKBONE, "capabilities = frozenset", "capabilities = len"),
            "capabilities gave int",
        ),
        (
            "run --set data.images=120 --set data.size=64 --backbone",
            _with(
                BACKBONE,
                "        with torch.inference_mode():\n            return",
                "        if True:\n            ",
            ),
            "cannot encode pictures (TypeError: encode_images gave NoneType, not Tensor)",
        ),
        (
            "show strategy",
            STRATEGY.replace("needs = ", "settings: 'Nope' = 3\n    needs = "),
            "class Mine: the types of its settings cannot be read (NameError: name 'Nope' is not defined)",
        ),
        ("show strategy", _with(STRATEGY, 'frozenset({"features"})', "5"), "cannot be shown (TypeError"),
        (
            "run --data",
            _with(READER, "return Dataset", "return b'\\xff'.decode() or Dataset"),
            "data set mine: failed in read: UnicodeDecodeError",
        ),
        (
            "data check",
            _with(READER, "return Dataset", 'return {}["path"] or Dataset'),
            "failed in read: KeyError",
        ),
        (
            "data check",
            _with(READER, "return Dataset", "return 3 or Dataset"),
            "read gave int, not a Dataset",
        ),
        ("data check", READER, "failed in load of its images: OSError: gone (mine.py, line 7)"),
        ("run --steps 2 --data", READER, "failed in keys of its images: KeyError: 'key' (mine.py, line 9)"),
        ("run --data", _with(READER, '    licence = "mine"\n', ""), "mine.py: Mine lacks licence"),
    ],
)
def test_it_is_one_line(
    verb: str, text: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.py").write_text(text)
    out = ["--out", tmp_path / "out"] if verb.startswith("run") else []
    assert main([*verb.split(), str(tmp_path / "mine.py"), *map(str, out)]) == 2
    (line,) = (line for line in capsys.readouterr().err.splitlines() if line.startswith("error: "))
    assert words in line
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("raise OSError('gone')", r"failed in masks of its outlines: OSError: gone \(mine.py, line 10\)"),
        ("return [np.zeros((9, 9), bool)]", r"masks gave bool of shape \(9, 9\), not bool \(1, H, W\)"),
    ],
)
def test_outlines_are_told_likewise(body: str, words: str, tmp_path: Path) -> None:
    outlines = (
        "class Outlines:\n"
        "    findings = ('Edema',)\n"
        "    def known(self, rows):\n        return np.ones((len(rows), 1), bool)\n"
        f"    def masks(self, rows):\n        {body}\n"
        "    def keys(self, rows):\n        return [b'x' * 32 for row in rows]\n"
    )
    text = _with(READER, "class Pictures", outlines + "class Pictures")
    (tmp_path / "mine.py").write_text(_with(text, "Pictures())", "Pictures(), regions=Outlines())"))
    table = DataSource.make(str(tmp_path / "mine.py"), None).read()
    assert table.regions is not None
    with pytest.raises(UserError, match=f"^data set mine: {words}"):
        table.regions.masks(np.array([0]))

"""The command that a result holds does the run again."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
from made_features import SETTINGS, features_file

import retune
from retune.cli.main import main
from retune.results.result import Result
from retune.settings import parse_search, searched, typed

ODD = """
from dataclasses import dataclass
from retune import Strategy

@dataclass
class Odd(Strategy):
    \"\"\"Settings of every type.\"\"\"
    name = "odd"
    needs = frozenset({"features"})
    words: tuple[str, ...] = ("one",)
    numbers: tuple[float, ...] = ()
    flag: bool = False
    limit: float | None = 1.0
    text: str = "plain"
    def fit(self, experience):
        pass
    def score(self, images):
        return images.features * (1 + self.flag)
"""
GIVEN = {
    "words": ["a b", "c,d", "ö"],
    "numbers": [1.5, 2],
    "flag": True,
    "limit": None,
    "text": "it's -x=$HOME",
}


@pytest.mark.parametrize("more", [{}, {"search": {"limit": [None, 2.0], "text": ["a,b", "c"]}}])
def test_the_command_of_a_result_does_the_same_run(more: dict[str, Any], tmp_path: Path) -> None:
    plugin = tmp_path / "odd.py"
    plugin.write_text(ODD)
    given = {key: value for key, value in GIVEN.items() if key not in more.get("search", {})}
    first = retune.run(
        strategy=str(plugin),
        backbone=features_file(tmp_path),
        settings={**SETTINGS, **given},
        replicates=20,
        steps=2,
        seed=3,
        time_limit=100.0,
        out=tmp_path / "first",
        **more,
    )
    assert "--time-limit" not in first.run.command
    words = shlex.split(first.run.command)
    assert words[0] == "retune"
    assert main([*words[1:], "--out", str(tmp_path / "again")]) == 0
    again = Result.read(tmp_path / "again")
    assert again.run.id == first.run.id
    assert again.strategy.settings == first.strategy.settings
    assert again.run.command == first.run.command


@pytest.mark.parametrize(
    "values", [[1, 0.5], [None, "a"], [True, False], ["a,b"], [" x"], ["[1]", "{"], [[1, 2], [3]]]
)
def test_values_to_search_are_read_as_they_were_typed(values: list[Any]) -> None:
    found = parse_search([searched("key", values)])["key"]
    assert [typed(value) for value in found] == [typed(value) for value in values]

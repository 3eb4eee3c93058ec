"""What the README shows is what the program does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import retune
from retune.catalog import KINDS, listing
from retune.cli.main import main
from retune.data.source import DataSource
from retune.prompts import load

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def test_both_commands_of_a_new_user_are_there() -> None:
    lines = README.splitlines()
    assert "pip install -e . && retune run --scenario class-incremental" in lines
    assert "pip install -e '.[test]' && pytest" in lines


def test_the_strategy_it_shows_runs(tmp_path: Path) -> None:
    (code,) = re.findall(r"## Add a strategy\n.*?```python\n(.*?)```", README, flags=re.DOTALL)
    file = retune.new_strategy("mean-shift", tmp_path / "mean_shift.py")
    assert code == file.read_text()
    settings = {"weight": "0.3", "data.images": 300, "data.size": 64}
    result = retune.run(strategy=str(file), settings=settings, replicates=20, out=tmp_path / "out")
    assert result.strategy.settings == {"weight": 0.3}
    assert result.auc_matrix[0] != result.auc_matrix[-1]


COMMANDS = {
    "run": ["run"],
    "list": ["list"],
    "show": ["show"],
    "data": ["data", "check"],
    "embed": ["embed"],
    "cache": ["cache", "list"],
    "suite": ["suite"],
    "report": ["report"],
    "check": ["check"],
    "new": ["new", "strategy"],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_it_names_exists(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    main([*COMMANDS[command], "--help"])
    known = set(re.findall(r"--[a-z][a-z-]+", capsys.readouterr().out))
    joined = re.sub(r"\n +\[--", " [--", README)
    lines = re.findall(rf"retune {command}\b[^\n`]*", joined)
    named = {option for line in lines for option in re.findall(r"--[a-z][a-z-]+", line)}
    assert named
    assert named <= known


def test_the_prompts_it_shows_are_a_bank(tmp_path: Path) -> None:
    (rows,) = re.findall(r"```json\n(.*?)```", README, flags=re.DOTALL)
    (tmp_path / "mine.jsonl").write_text(rows)
    bank = load(str(tmp_path / "mine.jsonl"))
    assert (len(bank.positive("Edema")), len(bank.negative("Edema"))) == (1, 1)


def test_the_table_it_shows_is_read(tmp_path: Path) -> None:
    (table,) = re.findall(r"```\n(file,pid,.*?)```", README, flags=re.DOTALL)
    (tmp_path / "labels.csv").write_text(table)
    settings = {"image": "file", "patient": "pid", "views": "all"}
    data = DataSource.make("csv", tmp_path, settings).read()
    assert data.labels == ("Edema", "Pleural Thickening")
    assert len(data) == 3


def test_every_name_it_uses_exists() -> None:
    names = {row["name"] for kind in KINDS for row in listing(kind)}
    used = re.findall(r"--(?:scenario|strategy|backbone|data|prompts) ([a-z][a-z0-9-]+)(?=[\s`|,])", README)
    assert used
    assert set(used) <= names


def test_pictures_and_links_into_the_repository_are_there() -> None:
    root = Path(__file__).parents[1]
    targets = re.findall(r"\]\((?!http)([^)#]+)\)", README)
    assert targets
    assert all((root / target).exists() for target in targets)

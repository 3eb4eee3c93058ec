"""What the READMEs show is what the program does, and each of them says it once."""

from __future__ import annotations

import ast
import importlib
import re
import runpy
import shlex
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer

import retune
from retune.catalog import KINDS, listing
from retune.cli.app import app
from retune.cli.main import main
from retune.data.source import DataSource
from retune.metrics.table import DENSE, METRICS
from retune.prompts import load

ROOT = Path(__file__).parents[1]
FRONT = "README.md"
ROOMS = ("leaderboard", "retune", "scenarios", "strategies")
FILES = [ROOT / FRONT, *(path for room in ROOMS for path in sorted((ROOT / room).rglob(FRONT)))]
READMES = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in FILES}
EVERYTHING = "\n".join(READMES.values())


def blocks(language: str) -> list[str]:
    """What stands between fences of a language."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", EVERYTHING, flags=re.DOTALL | re.MULTILINE)
    return [code for named, code in found if named == language]


def block(language: str, holds: str) -> str:
    """The one block of a language that holds something."""
    (found,) = (text for text in blocks(language) if holds in text)
    return found


def test_the_front_door_is_short_and_holds_both_commands_of_a_new_user() -> None:
    lines = READMES[FRONT].splitlines()
    assert "pip install -e . && retune run --scenario class-incremental" in lines
    assert "pip install -e '.[test]' && pytest" in lines
    assert len(READMES[FRONT].encode()) <= 12_000


def test_every_metric_stands_there_with_its_formula() -> None:
    lines = READMES["scenarios/README.md"].splitlines()
    assert [m.key for m in METRICS if f"| {m.heading} | {m.definition} |" not in lines] == []


# Blocks that are run.


def test_the_strategy_it_shows_runs(tmp_path: Path) -> None:
    file = retune.new_strategy("mean-shift", tmp_path / "mean_shift.py")
    assert block("python", "(Strategy)") == file.read_text()
    settings = {"weight": "0.3", "data.images": 300, "data.size": 64}
    result = retune.run(strategy=str(file), settings=settings, replicates=20, out=tmp_path / "out")
    assert result.strategy.settings == {"weight": 0.3}
    assert result.auc_matrix[0] != result.auc_matrix[-1]


def test_the_scenario_it_shows_keeps_the_contract(tmp_path: Path) -> None:
    file = tmp_path / "label_by_label.py"
    file.write_text(block("python", "(Scenario)"))
    report = retune.check_scenario(str(file))
    assert report.passed, report


@pytest.mark.slow
def test_the_same_from_python_runs(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """On fewer and smaller pictures."""
    monkeypatch.chdir(tmp_path)
    code = block("python", "retune.run(")
    few = code.replace('"epochs": 20', '"epochs": 1, "data.images": 250, "data.size": 64')
    few = few.replace("images=1000", "images=250, size=64")
    assert few.count("250") == 2
    known: dict[str, Any] = {}
    exec(few, known)
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 1 + 7
    assert known["features"].shape == (len(known["stream"].test), 128)


def test_the_features_file_it_shows_is_a_backbone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    vectors = np.eye(3, 4, dtype=np.float32)
    names = {
        "ids": ["a", "b", "c"],
        "vectors": vectors,
        "prompts": ["x", "y", "z"],
        "prompt_vectors": vectors,
    }
    exec(block("python", "numpy.savez"), {"numpy": np, **names})
    assert retune.load_backbone("features:mine.npz").card.dim == 4


def test_the_prompts_it_shows_are_a_bank(tmp_path: Path) -> None:
    (tmp_path / "mine.jsonl").write_text(block("json", "polarity"))
    bank = load(str(tmp_path / "mine.jsonl"))
    assert (len(bank.positive("Edema")), len(bank.negative("Edema"))) == (1, 1)


def test_the_table_it_shows_is_read(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text(block("", "file,pid,"))
    settings = {"image": "file", "patient": "pid", "views": "all"}
    data = DataSource.make("csv", tmp_path, settings).read()
    assert data.labels == ("Edema", "Pleural Thickening")
    assert len(data) == 3


def test_the_suite_it_shows_is_planned(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "table.toml").write_text(block("toml", "strategies"))
    retune.new_strategy("mean-shift", tmp_path / "mine.py")
    out = str(tmp_path / "out")
    assert main(["suite", str(tmp_path / "table.toml"), "--dry-run", "--out", out]) == 0
    assert "re-tune, shared" in capsys.readouterr().out


# What is named exists.


@pytest.mark.parametrize("code", blocks("python"), ids=range(len(blocks("python"))))
def test_what_python_imports_exists(code: str) -> None:
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom) and str(node.module).partition(".")[0] == "retune":
            module = importlib.import_module(str(node.module))
            assert [alias.name for alias in node.names if not hasattr(module, alias.name)] == []


def parse(words: list[str]) -> None:
    """Parse words as the command line does, and run nothing."""
    command: Any = typer.main.get_command(app)
    name, context = "retune", None
    while True:
        context = command.make_context(name, words, parent=context)
        rest = [*getattr(context, "_protected_args", ()), *context.args]
        if not rest or not hasattr(command, "resolve_command"):
            return
        name, command, words = command.resolve_command(context, rest)


COMMANDS = sorted(
    {part.strip() for text in blocks("sh") for part in re.split(r"&&|\n", text) if part.strip()}
)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_parses(command: str) -> None:
    program, *words = shlex.split(command)
    if program == "retune":
        parse(words)
    elif program == "pip":
        assert words[0] == "install"
    elif program == "python":
        assert words[0] == "-m" or (ROOT / words[0]).is_file()
    else:
        assert program == "pytest"


OPTIONS = {
    "run": ["run"],
    "list": ["list"],
    "show": ["show"],
    "data": ["data", "check"],
    "embed": ["embed"],
    "cache": ["cache", "prune"],
    "suite": ["suite"],
    "report": ["report"],
    "check": ["check"],
    "new": ["new", "strategy"],
    "submit": ["submit"],
}


@pytest.mark.parametrize("command", OPTIONS)
def test_every_option_it_names_exists(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    main([*OPTIONS[command], "--help"])
    known = set(re.findall(r"--[a-z][a-z-]+", capsys.readouterr().out))
    joined = re.sub(r"\n +\[--", " [--", EVERYTHING)
    lines = re.findall(rf"retune {command}\b[^\n`]*", joined)
    named = {option for line in lines for option in re.findall(r"--[a-z][a-z-]+", line)}
    assert named
    assert named <= known


@pytest.mark.parametrize("command", ["run", "suite"])
def test_the_synopsis_has_every_option(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    main([command, "--help"])
    known = set(re.findall(r"(?<=[ │])--[a-z][a-z-]+", capsys.readouterr().out)) - {"--help", "--set"}
    assert {"--seeds", "--steps"} <= known
    _, synopsis = (ROOT / "retune/cli/README.md").read_text().split(f"\nretune {command} ", 1)
    assert known <= set(re.findall(r"--[a-z][a-z-]+", synopsis.split("\nretune ")[0]))


def test_every_name_it_uses_exists() -> None:
    names = {row["name"] for kind in KINDS for row in listing(kind)}
    used = re.findall(
        r"--(?:scenario|strategy|backbone|data|prompts) ([a-z][a-z0-9-]+)(?=[\s`|,])", EVERYTHING
    )
    assert used
    assert set(used) <= names


def test_every_extra_it_names_exists() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = set(re.findall(r"'\.\[([a-z]+)\]'", EVERYTHING))
    assert {"test", "dicom"} <= named <= set(extras)


def test_every_room_on_the_map_is_there() -> None:
    paths = re.findall(r"`((?:retune|scenarios|strategies|tests|leaderboard)/[\w/.-]*)`", EVERYTHING)
    assert len(paths) > 20
    assert [path for path in paths if not (ROOT / path).exists()] == []


def anchors(text: str) -> set[str]:
    """The headings of a page, as links name them."""
    headings = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("name", READMES)
def test_pictures_and_links_into_the_repository_are_there(name: str) -> None:
    for target, anchor in re.findall(r"\]\((?!http)([^)#]*)(?:#([^)]+))?\)", READMES[name]):
        path = (ROOT / name).parent / target if target else ROOT / name
        assert path.exists(), target
        if anchor:
            assert anchor in anchors(path.read_text(encoding="utf-8")), anchor


def test_every_readme_is_reached_from_the_front_door() -> None:
    reached, left = set(), [FRONT]
    while left:
        name = left.pop()
        reached.add(name)
        targets = re.findall(r"\]\((?!http)([^)#]+README\.md)", READMES[name])
        paths = {((ROOT / name).parent / target).resolve().relative_to(ROOT) for target in targets}
        left += [path.as_posix() for path in paths if path.as_posix() not in reached]
    assert reached == set(READMES)


def test_no_sentence_stands_twice() -> None:
    said: Counter[str] = Counter()
    for text in READMES.values():
        prose = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
        rows = re.sub(r"^\|.*$", lambda row: row[0].replace("|", "\n\n"), prose, flags=re.MULTILINE)
        for paragraph in re.split(r"\n\s*\n|\n(?=- |\d+\. )", rows):
            sentences = re.split(r"(?<=[.!?])\s+", " ".join(paragraph.removeprefix("- ").split()))
            said.update(sentence for sentence in sentences if len(sentence) > 60)
    assert len(said) > 100
    assert [sentence for sentence, times in said.items() if times > 1] == []


def test_the_metrics_of_a_transfer_and_the_published_dice_stand_there() -> None:
    text = READMES["retune/transfers/README.md"]
    lines = text.splitlines()
    assert [m.key for m in DENSE if f"| {m.heading} | {m.definition} |" not in lines] == []
    script = runpy.run_path(str(ROOT / "tests/benchmarks/published_dice.py"))
    assert [row for row in script["table"]() if row not in lines] == []
    above = sum(cell[1] > script["EMPTY"]["RSNA"][0] for row in script["ROWS"] for cell in row.rsna)
    above += sum(cell[1] > script["EMPTY"]["SIIM"][0] for row in script["ROWS"] for cell in row.siim)
    assert (above, 6 * len(script["ROWS"])) == (3, 96)
    assert "all but three of the 96 numbers" in text
    assert script["EMPTY"]["RSNA"][0] == round(100 - 100 * 1251 / 5337, 1)

"""``retune check`` and ``retune new`` as a user meets them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from retune.check.scenario import CHECKS as SCENARIO_CHECKS
from retune.check.strategy import CHECKS
from retune.cli.main import main

HERE = Path(__file__).parents[1]
STRATEGIES, SCENARIOS = HERE / "broken_strategies.py", HERE / "broken_scenarios.py"


@pytest.mark.parametrize("words", [["scenario", "data-incremental"], ["scenario", f"{SCENARIOS}:Good"]])
def test_what_passes_is_listed_and_exits_with_0(capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    assert main(["check", *words]) == 0
    out = capsys.readouterr().out
    for check in SCENARIO_CHECKS:
        assert check.name in out
    assert f"{words[1].split('/')[-1]} keeps the contract: {len(SCENARIO_CHECKS)} checks" in " ".join(
        out.split()
    )


@pytest.mark.parametrize("kind", [[], ["strategy"]])
def test_what_fails_is_named_and_exits_with_1(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, kind: list[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    assert main(["check", *kind, f"{STRATEGIES}:LeavesALabelOut"]) == 1
    out = capsys.readouterr().out
    (failed,) = [k for k, line in enumerate(out.splitlines()) if line.startswith("FAILED")]
    lines = [line.strip() for line in out.splitlines()[failed : failed + 3]]
    assert lines[0] == "FAILED  scores-every-label-at-every-moment"
    assert lines[2] == "before any training: shape (12, 5), not (12, 6)"
    assert f"breaks the contract: 1 of {len(CHECKS)} checks failed" in " ".join(out.split())
    assert all(len(line) <= 120 for line in out.splitlines())


def test_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", f"{STRATEGIES}:Prints", "--set", "weight=0.25", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert (found["kind"], found["passed"]) == ("strategy", False)
    outcomes = {check["name"]: check["outcome"] for check in found["checks"]}
    assert len(outcomes) == len(CHECKS)
    assert {name for name, outcome in outcomes.items() if outcome != "passed"} == {"prints-nothing"}


def test_a_time_limit(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", f"{STRATEGIES}:NeverReturns", "--time-limit", "0.3"]) == 1
    printed = capsys.readouterr().out
    assert printed.count("not tried ") == 1
    out = " ".join(printed.split())
    assert f"not tried {len(CHECKS) - 2} checks: runs failed" in out
    assert "did not return within 0.3 seconds" in out
    assert f"1 of {len(CHECKS)} checks failed, {len(CHECKS) - 2} were not tried" in out


BAD = {
    "does-not-import": "import nothing_of_that_name",
    "lacks-a-method": (
        "from retune import Strategy\n\nclass Mine(Strategy):\n    name = 'mine'\n\n    def fit(self, experience): ...\n"
    ),
    "leaves": "import sys\nsys.exit(3)",
}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["re-tunes"], "unknown strategy 're-tunes'; did you mean re-tune"),
        (["scenario", "class"], "unknown scenario 'class'"),
        (["strategies", "re-tune"], "unknown kind 'strategies'; did you mean strategy"),
        (["scenario"], "give one name"),
        (["strategy", "ridge", "joint"], "give one name"),
        (["zero-shot", "--set", "epochs=3"], "strategy zero-shot: unknown setting 'epochs'"),
        (["zero-shot", "--set", "epochs"], "'epochs' is not key=value"),
        (
            ["scenario", "class-incremental", "--set", "scenario.order=alphabet"],
            "'alphabet' is not dataset | freq",
        ),
        (["does-not-import.py"], "does-not-import.py, line 1: cannot be imported (ModuleNotFoundError"),
        (["lacks-a-method.py"], "lacks-a-method.py: Mine lacks score"),
        (["leaves.py"], "leaves.py, line 2: cannot be imported (SystemExit: 3)"),
        ([f"{STRATEGIES}:Good/paper"], "has no presets"),
    ],
    ids=lambda value: " ".join(value)[-40:] if isinstance(value, list) else "",
)
def test_a_mistake_is_one_line_and_exits_with_2(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    message: str,
) -> None:
    for name, text in BAD.items():
        (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    assert main(["check", *words]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert message in told.err
    assert told.err.count("\n") == 1


def test_a_new_strategy_works_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["new", "strategy", "my-method"]) == 0
    assert "retune check ./my_method.py" in capsys.readouterr().out
    text = Path("my_method.py").read_text()
    assert 'name = "my-method"' in text
    assert "class MyMethod(Strategy)" in text
    assert "hift(" not in text
    assert main(["check", "./my_method.py", "--json"]) == 0
    (learnt,) = json.loads(capsys.readouterr().out)["remarks"]
    before, after = (float(word) for word in learnt.split() if word.startswith("0."))
    assert after > before + 0.05


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["mine"], "mine.py: is there already"),
        (["mine", "--out", "no/such/folder/mine.py"], "there is no folder no/such/folder"),
        (["mine", "--out", "mine.txt"], "'mine.txt' is no Python file"),
        (["My Method"], "'My Method' is no name of a strategy"),
        (["re-tune"], "there is a strategy called 're-tune'"),
    ],
)
def test_new_overwrites_nothing_and_takes_no_bad_name(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text("mine")
    assert main(["new", "strategy", *words]) == 2
    assert message in capsys.readouterr().err
    assert [path.read_text() for path in tmp_path.iterdir()] == ["mine"]

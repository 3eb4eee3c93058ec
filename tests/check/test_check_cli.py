"""``retune check`` and ``retune new`` as a user meets them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from retune.check import check_dataset
from retune.check.scenario import CHECKS as SCENARIO_CHECKS
from retune.check.strategy import CHECKS
from retune.cli.main import main
from retune.scaffold import starting_point

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
        (["My 2 Ideas!"], "write it like my-2-ideas, in"),
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


def pictures(folder: Path, n: int = 40) -> Path:
    """A hospital's folder as the starting point of a reader wants it."""
    rows = [f"p{i}.png,P{i // 2},{i % 2},{'' if i % 5 == 0 else i % 3 // 2}" for i in range(n)]
    folder.mkdir()
    (folder / "labels.csv").write_text("\n".join(["file,patient,Edema,Fracture", *rows]) + "\n")
    for i in range(n):
        Image.new("L", (40, 40), 3 * i).save(folder / f"p{i}.png")
    return folder


def test_a_new_reader_works_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["new", "dataset", "st-elsewhere"]) == 0
    assert "retune check dataset ./st_elsewhere.py --root DIR" in capsys.readouterr().out
    folder = pictures(tmp_path / "files")
    words = ["check", "dataset", "./st_elsewhere.py", "--root", str(folder)]
    assert main(words) == 0
    assert "keeps the contract: 10 checks passed" in capsys.readouterr().out
    (folder / "p7.png").unlink()
    assert main(words) == 1
    assert "1 of 40 pictures are missing, such as p7.png" in capsys.readouterr().out
    table = folder / "labels.csv"
    table.write_text(table.read_text().replace("p3.png,P1,1", "p3.png,P1,yes"))
    assert main(words) == 1
    assert "labels.csv, row 5: Edema is 'yes', not 1, 0 or blank" in " ".join(capsys.readouterr().out.split())


BROKEN = {
    "has-every-split": (
        "split_by_patient(patients, valid=self.valid, test=0.2)",
        'np.full(len(rows), "train")',
    ),
    "says-the-same-twice": (
        "files, patients = (",
        "rows.sort(key=lambda row: __import__('os').listdir(folder).index(row['file']))\n        files, patients = (",
    ),
    "says-what-it-is": (
        'labels = ("Edema", "Fracture")',
        'labels = ("Edema", "Fracture", )\n    licence = ""',
    ),
    "has-something-to-learn": ('"0": 0.0', '"0": np.nan'),
    "views-are-known": (
        "source=self.source,",
        'source=self.source, columns={"view": np.full(len(rows), "sideways")},',
    ),
    "pictures-are-told-apart": ("images=FileImages(files, folder)", "images=Forgetful(files, folder)"),
    "changes-nothing": ('codes = {"1"', '(folder / "index").write_text("x")\n        codes = {"1"'),
}
FORGETFUL = """

class Forgetful(FileImages):
    def keys(self, rows):
        import os
        return [os.urandom(32) for _ in rows]
"""


def test_a_broken_reader_fails_its_check(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "files")
    text = starting_point("our-own", "our-hospital")
    for demand, (right, wrong) in BROKEN.items():
        assert right in text, demand
        file = tmp_path / f"{demand.replace('-', '_')}.py"
        body = text.replace(right, wrong)
        file.write_text(
            body.replace("\n\n@dataclass", FORGETFUL + "\n\n@dataclass", 1) if "Forgetful" in wrong else body
        )
        assert demand in check_dataset(str(file), folder).failed, demand
        (folder / "index").unlink(missing_ok=True)


def test_a_new_scenario_and_a_memory_work_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["new", "scenario", "by-years"]) == 0
    assert main(["new", "strategy", "keeps-few", "--memory"]) == 0
    assert main(["check", "scenario", "./by_years.py"]) == 0
    assert main(["check", "./keeps_few.py"]) == 0


def test_a_built_in_reader_keeps_the_contract() -> None:
    assert check_dataset("phantom", settings={"images": 120, "size": 64}).passed


def test_a_strategy_has_no_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "ridge", "--root", str(tmp_path)]) == 2
    assert "a strategy has no files" in capsys.readouterr().err

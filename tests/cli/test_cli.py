"""The command line as a user types it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from made_runs import made_run, made_scores, made_targets

import retune
from retune.catalog import KINDS, listing
from retune.cli.main import main

SMALL = ["--set", "data.images=300", "--set", "data.size=64", "--replicates", "50"]


def call(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(list(arguments))
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def below(out: str, heading: str) -> str:
    """What stands on the line below a heading."""
    return out.partition(f"\n{heading}\n")[2].partition("\n")[0]


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(capsys, "--version") == (0, f"retune {retune.__version__}\n", "")


def test_python_m_retune_is_the_same_command() -> None:
    done = subprocess.run([sys.executable, "-m", "retune", "--version"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, f"retune {retune.__version__}\n")


def test_help_list_and_explain_do_not_import_torch(tmp_path: Path) -> None:
    targets, patients = made_targets()
    folder = str(made_run(tmp_path, "ridge", 0, made_scores(targets, 1.0, 0), targets, patients).folder)
    code = (
        "import sys, retune\nfrom retune.cli.main import main\n"
        f"for words in ([], ['--help'], ['list'], ['run', '--help'], ['explain', {folder!r}]):\n"
        "    if words: main(words)\n"
        "    heavy = {'torch', 'open_clip', 'transformers', 'pandas', 'sklearn'} & set(sys.modules)\n"
        "    if heavy: sys.exit(f'{words} imports {heavy}')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call(capsys, "--help")
    assert code == 0
    assert all(
        re.search(rf"\b{name}\b", out)
        for name in (
            "run",
            "explain",
            "list",
            "show",
            "data",
            "embed",
            "cache",
            "prompts",
            "suite",
            "report",
            "check",
            "new",
        )
    )


def test_a_list_is_one_screen_and_its_names_are_whole(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    _, out, _ = call(capsys, "list")
    lines = out.splitlines()
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80
    kinds = {kind: [row["name"] for row in listing(kind)] for kind in KINDS}
    assert all(
        re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", out) for names in kinds.values() for name in names
    )
    _, out, _ = call(capsys, "list", "strategies")
    lines = out.splitlines()
    assert [line.split()[0] for line in lines] == kinds["strategies"]
    assert max(map(len, lines)) <= 80


def test_list_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call(capsys, "list", "--json")
    found = json.loads(out)
    assert code == 0
    assert set(found) == {
        "datasets",
        "backbones",
        "scenarios",
        "strategies",
        "transfers",
        "metrics",
        "prompts",
    }
    assert {"re-tune", "zero-shot"} <= {row["name"] for row in found["strategies"]}
    assert all(row["summary"] for rows in found.values() for row in rows)


def test_list_one_kind(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = call(capsys, "list", "scenarios")
    assert "class-incremental" in out
    assert "linear-probe" not in out


@pytest.mark.parametrize(
    ("kind", "name", "words"),
    [
        ("strategy", "re-tune", ["2410.17827", "mlp, double", "131,840", "batch_size"]),
        ("scenario", "class-incremental", ["scenario.", "order", "steps"]),
        ("dataset", "nih", ["Wang et al.", "Hernia"]),
        ("dataset", "phantom", ["synthetic", "label_noise"]),
        ("backbone", "phantom-clip", ["Apache", "128"]),
        ("backbone", "biomedclip", ["MIT", "512"]),
        ("prompts", "language-model", ["Cardiomegaly", "10"]),
    ],
)
def test_show(capsys: pytest.CaptureFixture[str], kind: str, name: str, words: list[str]) -> None:
    code, out, err = call(capsys, "show", kind, name)
    assert (code, err) == (0, "")
    assert all(word in out for word in words), out
    code, out, _ = call(capsys, "show", kind, name, "--json")
    assert json.loads(out)["name"] == name


@pytest.mark.parametrize("name", retune.registry("strategies").names())
def test_show_a_paper_s_figures_beside_ours(capsys: pytest.CaptureFixture[str], name: str) -> None:
    code, out, err = call(capsys, "show", "strategy", name, "--paper", "--json")
    assert (code, err) == (0, "")
    figures = json.loads(out)["published_figures"]
    published = {
        "adaptor",
        "biomed-coop",
        "cleft",
        "clip-adapter",
        "coop",
        "m-flag",
        "re-tune",
        "tip-adapter",
    }
    assert bool(figures) is (name in published)
    assert all({"name", "published", "ours", "source", "unit"} == set(figure) for figure in figures)
    code, out, err = call(capsys, "show", "strategy", name, "--paper")
    assert (code, err) == (0, "")
    assert "differs" not in out
    assert len(re.findall(r"\d( %)? +equal\b", out)) == len(figures)
    assert all(f"{f['ours']:,.0f}" in out for f in figures if f["unit"] == "parameters")
    assert "published_figures" not in json.loads(call(capsys, "show", "strategy", name, "--json")[1])


def test_show_a_preset(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call(capsys, "show", "strategy", "re-tune/paper", "--json")
    shown = json.loads(out)
    assert code == 0
    assert shown["name"] == "re-tune/paper"
    assert {s["name"]: s["default"] for s in shown["settings"]}["batch_size"] == 6144
    assert shown["presets"]["paper"]["batch_size"] == 6144
    code, out, _ = call(capsys, "show", "strategy", "re-tune")
    assert re.search(r"^Preset re-tune/paper: .*adaptors=shared", out, flags=re.MULTILINE)
    assert "Preset re-tune/paper-steps" in out


def test_run_prints_a_table_and_says_where_it_went(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.chdir(tmp_path)
    code, out, _ = call(capsys, "run", "--scenario", "class-incremental", *SMALL)
    assert code == 0
    (written,) = tmp_path.glob("runs/class-incremental/re-tune-phantom-seed0-*/result.json")
    assert str(written.relative_to(tmp_path)) in out
    assert "synthetic" in out
    rows = re.findall(r"^(zero-shot|after \d|learnt in) +[\d.]", out, flags=re.MULTILINE)
    assert rows == ["learnt in", "zero-shot", *(f"after {i}" for i in range(1, 6))]
    for words in ("final AUC", "average AUC", "forgetting", "95 % interval", "Pleural Effusion", "Next"):
        assert words in out
    # Commands and paths stay on one line, to be copied.
    lines = [line for line in out.splitlines() if not line.startswith(("retune run ", "Written to "))]
    assert max(map(len, lines)) <= 80
    # That of the default settings fits, with nothing before it.
    small = " ".join(SMALL)
    compare = below(out, "Next, compare:").replace(f" {small}", "")
    assert compare == "retune run --scenario class-incremental --seed 0 --strategy joint"
    # The same command again shows the same and computes nothing.
    assert call(capsys, "run", "--scenario", "class-incremental", *SMALL)[1] == out


def test_what_to_do_next_is_about_the_same_stream(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    options = ["--steps", "2", "--set", "epochs=2", "--set", "scenario.order=random", *SMALL]
    _, out, _ = call(capsys, "run", *options, "--out", str(tmp_path / "out"))
    compare, repeat = (below(out, f"Next, {why}:").removeprefix("retune ") for why in ("compare", "repeat"))
    assert "epochs=2" in repeat
    assert "epochs=2" not in compare
    for command in (compare, repeat):
        assert "--steps 2" in command
        assert "scenario.order=random" in command
        assert "data.images=300" in command
    code, out, _ = call(capsys, *compare.split(), "--out", str(tmp_path / "other"))
    assert code == 0
    assert "joint" in out


def test_run_as_json_is_the_result_file(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out_folder = tmp_path / "out"
    code, out, _ = call(capsys, "run", *SMALL, "--out", str(out_folder), "--json", "--steps", "3")
    assert code == 0
    written = json.loads((out_folder / "result.json").read_text())
    assert {**json.loads(out), "digest": written["digest"]} == written
    assert len(json.loads(out)["auc_matrix"]) == 4


def test_seeds_give_mean_and_deviation(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    arguments = ["run", *SMALL, "--seeds", "3", "--out", str(tmp_path), "--strategy", "linear-probe"]
    code, out, _ = call(capsys, *arguments)
    assert code == 0
    assert "3 seeds" in out
    values = [retune.Result.read(tmp_path / f"seed-{k}").metrics["final_auc"].value for k in range(3)]
    mean = sum(v for v in values if v is not None) / 3
    assert re.search(rf"final AUC +{f'{mean:.3f}'.lstrip('0')} ", out)
    code, out, _ = call(capsys, *arguments, "--json")
    assert [r["run"]["seed"] for r in json.loads(out)] == [0, 1, 2]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "--scenario", "clas-incremental"], "did you mean class-incremental"),
        (["run", "--set", "lr"], "key=value"),
        (["run", "--set", "lr=x"], "setting lr"),
        (["run", "--steps", "15"], "give --steps 14 or fewer"),
        (["run", "--steps", "many"], "--steps"),
        (["run", "--seed", "1", "--seeds", "2"], "exclude"),
        (["run", "--seeds", "0"], "--seeds"),
        (["run", "--frobnicate"], "--frobnicate"),
        (["run", "--precision", "fp8"], "'fp8' is not one of 'fp32', 'bf16'"),
        (["run", "--uncertain", "maybe"], "'maybe' is not one of 'ignore', 'zeros', 'ones'"),
        (["run", "--data", "nih"], "--root DIR is needed"),
        (["run", "--data", "nih", "--root", "/no/such/folder"], "/no/such/folder"),
        (["run", "--strategy", "./nothing.py"], "there is no file"),
        (["run", "--prompts", "nothing.jsonl"], "nothing.jsonl"),
        (["run", "--backbone", "local-dir:/no/such/model"], "/no/such/model"),
        (["show", "strategy", "re-tunes"], "did you mean re-tune"),
        (["show", "strategy", "re-tune/papr"], "did you mean paper"),
        (["run", "--strategy", "re-tune/papr"], "did you mean paper"),
        (["run", "--strategy", "re-tune/paper", "--set", "lrr=1"], "did you mean lr"),
        (["run", "--backbone", "rad-dino-cxr-bert"], "re-tune needs joint"),
        (["show", "thing", "x"], "unknown kind 'thing'"),
        (["show", "strategy", "re-tune", "--dim", "0"], "--dim"),
        (["run", "--root", "somewhere"], "name the data set with --data"),
        (["list", "things"], "things"),
        (["fly"], "fly"),
    ],
)
def test_bad_input_is_one_line_on_stderr_and_exit_code_2(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = call(capsys, *arguments)
    assert code == 2
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith("error: ")
    assert words in err
    assert list(tmp_path.iterdir()) == []


def test_a_bare_command_prints_its_help_and_no_complaint(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = call(capsys)
    assert (code, err) == (2, "")
    assert "Usage: retune" in out


def test_a_table_says_what_was_asked_beside_the_defaults(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    words = [
        "--strategy",
        "re-tune/paper",
        "--set",
        "epochs=1",
        "--prompts",
        "chexzero",
        "--replicates",
        "20",
    ]
    small = ["--set", "data.images=300", "--set", "data.size=64", "--steps", "2"]
    _, out, _ = call(capsys, "run", *words, *small, "--out", str(tmp_path / "out"))
    told = " ".join(out.split())
    assert told.startswith("re-tune/paper on phantom (synthetic), class-incremental in 2 steps")
    assert (
        "backbone phantom-clip, prompts chexzero, seed 0 With epochs=1, data.images=300, data.size=64" in told
    )

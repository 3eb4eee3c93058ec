"""Suites on this machine: every run once, whatever dies, prints or hangs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import made_suites as made
import pytest

from retune.results.result import Result
from retune.suite.cells import command
from retune.suite.execute import Report

# The bits of joint's scores depend on the number of threads.
BOTH = ["zero-shot", "joint"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Report]:
    out = tmp_path_factory.mktemp("whole")
    return out, made.run(out, BOTH, workers=2)


def test_every_run_has_its_folder_and_its_cell(whole: tuple[Path, Report]) -> None:
    out, report = whole
    assert [(cell.strategy, cell.seed) for cell in report.finished] == [
        (strategy, seed) for seed in (0, 1) for strategy in BOTH
    ]
    for cell in report.finished:
        assert cell.folder.parent == out / "runs" / "class-incremental"
        result = Result.read(cell.folder)
        assert (result.strategy.name, result.run.seed) == (cell.strategy, cell.seed)
        assert len(result.scenario.experiences) == 2
    assert not report.failures


def test_bits_are_the_same_whatever_the_number_of_jobs(whole: tuple[Path, Report], tmp_path: Path) -> None:
    made.run(tmp_path, BOTH, workers=1)
    assert len(made.scores(tmp_path)) == 4
    assert made.scores(tmp_path) == made.scores(whole[0])


def test_the_command_of_a_run_repeats_it_alone_to_the_bit(whole: tuple[Path, Report], tmp_path: Path) -> None:
    job = made.planned(tmp_path, BOTH).jobs[1]
    environment, words = made.alone(command(job.cell.spec, job.folder))
    done = subprocess.run([sys.executable, "-m", *words], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert job.done
    assert made.scores(tmp_path).items() <= made.scores(whole[0]).items()


def test_what_is_finished_is_not_done_again(whole: tuple[Path, Report]) -> None:
    out, first = whole
    times = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}
    again = made.run(out, BOTH)
    assert [cell.folder for cell in again.finished] == [cell.folder for cell in first.finished]
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()} == times


def test_images_are_encoded_once_before_the_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RETUNE_CACHE", str(tmp_path / "cache"))
    report = made.run(tmp_path / "out", ["zero-shot"])
    assert len(report.finished) == 2
    assert [cell.result.cost.images_encoded for cell in report.finished] == [0, 0]
    kinds = [path for path in (tmp_path / "cache" / "features").iterdir() if any(path.glob("*.safetensors"))]
    assert len(kinds) == 2  # images and texts


def test_a_run_whose_process_dies_once_continues_after_its_last_experience(tmp_path: Path) -> None:
    report = made.run(tmp_path / "out", [made.dies_once(tmp_path)], workers=1)
    assert [cell.seed for cell in report.finished] == [0, 1]
    assert (tmp_path / "log").read_text().split() == ["0:0", "0:7", "0:7", "1:0", "1:7"]
    unharmed = made.run(tmp_path / "again", [made.dies_once(tmp_path)], workers=1)
    assert not unharmed.failures
    assert made.scores(tmp_path / "out") == made.scores(tmp_path / "again")


BAD = {
    "shape": ({"score": "images.features[:, :3]"}, "3)"),
    "nan": ({"score": "images.features[:, :14] * float('nan')"}, "NaN"),
    "raises": ({"fit": "raise ValueError('boom')"}, "ValueError: boom"),
    "sleeps": ({"fit": "time.sleep(1000)"}, "time limit of 2 s"),
    "dies": ({"fit": "os.kill(os.getpid(), signal.SIGKILL)"}, "its process died (signal 9"),
}


@pytest.mark.slow
def test_bad_plugins_are_named_and_stop_nothing_else(tmp_path: Path) -> None:
    files = [made.write(tmp_path, name, **more) for name, (more, _) in BAD.items()]
    (tmp_path / "absent.py").write_text("import nothing_of_that_name\n")
    (tmp_path / "lacking.py").write_text(
        "from retune import Strategy\nclass Lacking(Strategy):\n    name = 'lacking'\n"
        "    def fit(self, experience):\n        pass\n"
    )
    files += [str(tmp_path / f"{name}.py") for name in ("absent", "lacking")]
    files.append(made.write(tmp_path, "chatty", fit="print('good morning')"))
    report = made.run(tmp_path / "out", [*files, "zero-shot"], seeds=1, time_limit=2)
    assert {cell.strategy for cell in report.finished} == {"zero-shot", "chatty"}
    reasons = {failure.cell.strategy: failure.reason for failure in report.failures}
    wanted = {name: words for name, (_, words) in BAD.items()}
    wanted |= {"absent": "cannot be imported (ModuleNotFoundError", "lacking": "score"}
    assert set(reasons) == set(wanted)
    for name, words in wanted.items():
        assert words in reasons[name]
        assert name in reasons[name].lower()
        assert "\n" not in reasons[name]
    assert report.printed == {"chatty": "good morning\ngood morning"}


@pytest.mark.slow
def test_compiled_code_that_never_returns_is_ended_and_named(tmp_path: Path) -> None:
    stuck = made.write(tmp_path, "stuck", fit="sum(itertools.repeat(1))")
    report = made.run(tmp_path / "out", [stuck, "zero-shot"], seeds=1, time_limit=0.5)
    assert [cell.strategy for cell in report.finished] == ["zero-shot"]
    assert [failure.cell.strategy for failure in report.failures] == ["stuck"]
    assert "strategy stuck did not come back long after its time limit of 0.5 s" in report.failures[0].reason


def test_what_a_plugin_changes_for_its_process_reaches_no_other_strategy(
    whole: tuple[Path, Report], tmp_path: Path
) -> None:
    nasty = made.write(tmp_path, "nasty", fit="torch.Tensor.softmax = torch.Tensor.sigmoid = None")
    # Asked for first; built-in methods run before it nevertheless, and never after it in one process.
    out = tmp_path / "out"
    assert len(made.run(out, [nasty], workers=1).finished) == 2
    report = made.run(out, [nasty, *BOTH], workers=1)
    assert len(report.finished) == 6
    ours = {name: data for name, data in made.scores(out).items() if not name.startswith("nasty")}
    assert ours == made.scores(whole[0])


def test_a_process_that_has_grown_is_exchanged_without_a_word(
    tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    pids = tmp_path / "pids"
    grows = made.write(
        tmp_path,
        "grows",
        fit=f"""
        torch.__dict__.setdefault("kept", []).append(torch.ones(60_000_000))
        time.sleep(0.6)
        with open({str(pids)!r}, "a") as log:
            print(os.getpid(), file=log)
""",
    )
    report = made.run(tmp_path / "out", [grows], workers=1, seeds=3)
    assert len(report.finished) == 3
    assert len(set(pids.read_text().split())) > 1
    assert [str(one.message) for one in recwarn if "worker" in str(one.message)] == []

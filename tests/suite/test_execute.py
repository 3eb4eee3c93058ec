"""Suites on this machine: every run once, whatever dies, prints or hangs."""

from __future__ import annotations

from pathlib import Path

import made_suites as made
import pytest

from retune.backbones.precision import threads
from retune.cli.main import main
from retune.results.result import Result
from retune.suite.execute import Outcome
from retune.suite.work import work

# The bits of joint's scores depend on the number of threads.
BOTH = ["zero-shot", "joint"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    """A suite run two runs at a time, from an empty feature store of its own."""
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("RETUNE_CACHE", str(folder / "cache"))
        return folder, made.run(folder / "out", BOTH, workers=2)


def test_every_run_has_its_folder_and_its_name(whole: tuple[Path, Outcome]) -> None:
    folder, outcome = whole
    assert [(run.strategy, run.seed) for run in outcome.finished] == [
        (strategy, seed) for seed in (0, 1) for strategy in BOTH
    ]
    for run in outcome.finished:
        assert run.folder.parent == folder / "out" / "runs" / "class-incremental"
        result = Result.read(run.folder)
        assert (result.strategy.name, result.run.seed) == (run.strategy, run.seed)
        assert len(result.scenario.experiences) == 2
    assert not outcome.failures


def test_images_are_encoded_once_before_the_runs(whole: tuple[Path, Outcome]) -> None:
    folder, outcome = whole
    assert [run.result.cost.images_encoded for run in outcome.finished] == [0] * 4
    kinds = [path for path in (folder / "cache" / "features").iterdir() if any(path.glob("*.safetensors"))]
    assert len(kinds) == 2  # images and texts


def test_bits_are_the_same_as_one_after_another_in_this_process(
    whole: tuple[Path, Outcome], tmp_path: Path
) -> None:
    assert made.undisturbed(tmp_path, BOTH) == made.scores(whole[0] / "out")
    assert len(made.scores(tmp_path)) == 4


def test_the_command_of_a_run_repeats_it_alone_to_the_bit(
    whole: tuple[Path, Outcome], tmp_path: Path
) -> None:
    job = made.planned(tmp_path, BOTH).jobs[1]
    threads_set, retune, *words = job.run.command(job.folder).split(" ")
    assert (threads_set, retune) == ("OMP_NUM_THREADS=1", "retune")
    # A process reads that setting when it begins; this one has begun.
    with threads(1):
        assert main(words) == 0
    assert job.done
    assert made.scores(tmp_path).items() <= made.scores(whole[0] / "out").items()


def test_what_is_finished_is_not_done_again(whole: tuple[Path, Outcome]) -> None:
    folder, first = whole
    times = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    again = made.run(folder / "out", BOTH)
    assert [run.folder for run in again.finished] == [run.folder for run in first.finished]
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()} == times


def test_a_run_whose_process_dies_once_continues_after_its_last_experience(tmp_path: Path) -> None:
    outcome = made.run(tmp_path / "out", [made.dies_once(tmp_path)], workers=1)
    assert [run.seed for run in outcome.finished] == [0, 1]
    assert (tmp_path / "log").read_text().split() == ["0:0", "0:7", "0:7", "1:0", "1:7"]
    assert made.scores(tmp_path / "out") == made.undisturbed(tmp_path / "again", [made.dies_once(tmp_path)])


ANSWERS = {
    "shape": ({"score": "images.features[:, :3]"}, "3)"),
    "nan": ({"score": "images.features[:, :14] * float('nan')"}, "NaN"),
    "sleeps": ({"fit": "time.sleep(1000)"}, "time limit of 1.5 s"),
    "raises": ({"fit": "raise ValueError('boom')"}, "ValueError: boom"),
}
"""What a process tells of a run, whatever else it has run."""
ENDS = {
    "dies": ({"fit": "os.kill(os.getpid(), signal.SIGKILL)"}, "its process died (signal 9"),
    "stuck": ({"fit": "sum(itertools.repeat(1))"}, "did not come back long after its time limit of 1.5 s"),
}


@pytest.mark.slow
def test_bad_plugins_are_named_and_stop_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("retune.suite.local.begin", made.begin_impatiently)
    files = [made.write(tmp_path, name, **more) for name, (more, _) in ENDS.items()]
    (tmp_path / "absent.py").write_text("import nothing_of_that_name\n")
    (tmp_path / "lacking.py").write_text(
        "from retune import Strategy\nclass Lacking(Strategy):\n    name = 'lacking'\n"
        "    def fit(self, experience):\n        pass\n"
    )
    files += [str(tmp_path / f"{name}.py") for name in ("absent", "lacking")]
    outcome = made.run(tmp_path / "out", [*files, "zero-shot"], seeds=1, time_limit=1.5)
    assert {run.strategy for run in outcome.finished} == {"zero-shot"}
    reasons = {failure.run.strategy: failure.reason for failure in outcome.failures}
    wanted = {name: words for name, (_, words) in ENDS.items()}
    wanted |= {"absent": "cannot be imported (ModuleNotFoundError", "lacking": "score"}
    assert set(reasons) == set(wanted)

    files = [made.write(tmp_path, name, **more) for name, (more, _) in ANSWERS.items()]
    jobs = made.planned(tmp_path / "out", [*files, "zero-shot"], seeds=1, time_limit=1.5).left
    ended = {job.run.strategy: work(job) for job in jobs}
    assert {how.state for how in ended.values()} == {"failed"}
    reasons |= {name: how.reason for name, how in ended.items()}
    wanted |= {name: words for name, (_, words) in ANSWERS.items()}
    assert set(reasons) == set(wanted)
    for name, words in wanted.items():
        assert words in reasons[name]
        assert name in reasons[name].lower()
        assert "\n" not in reasons[name]


def test_a_process_that_has_grown_is_exchanged_without_a_word_and_what_it_printed_is_told(
    tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    pids = tmp_path / "pids"
    grows = made.write(
        tmp_path,
        "grows",
        fit=f"""
        print("good morning")
        torch.__dict__.setdefault("kept", []).append(torch.ones(60_000_000))
        time.sleep(0.6)
        with open({str(pids)!r}, "a") as log:
            print(os.getpid(), file=log)
""",
    )
    outcome = made.run(tmp_path / "out", [grows], workers=1, seeds=3)
    assert len(outcome.finished) == 3
    assert len(set(pids.read_text().split())) > 1
    assert [str(one.message) for one in recwarn if "worker" in str(one.message)] == []
    assert outcome.printed == {"grows": "good morning\ngood morning"}

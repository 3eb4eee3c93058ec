"""What never comes back is stopped; what was there before is put back; a run goes on with more time."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from made_features import SETTINGS, features_file

import retune
from retune.cli.main import main
from retune.errors import BadSetting, StrategyError
from retune.runner.time_limit import OutOfTime, limited

SHORT = 0.05


def computes() -> None:
    while True:
        pass


def catches() -> None:
    while True:
        try:
            computes()
        except Exception:
            continue


def sleeps() -> None:
    time.sleep(1e6)


def stopped(work: Callable[[], None]) -> str:
    try:
        with limited(SHORT):
            work()
    except OutOfTime:
        return "stopped"
    return "came back"


def in_a_thread(work: Callable[[], Any]) -> Any:
    answers: list[Any] = []
    thread = threading.Thread(target=lambda: answers.append(work()))
    thread.start()
    thread.join()
    return answers[0]


@pytest.mark.parametrize("work", [computes, catches, sleeps])
def test_the_main_thread_is_stopped(work: Callable[[], None]) -> None:
    assert stopped(work) == "stopped"


@pytest.mark.parametrize("work", [computes, catches])
def test_another_thread_is_stopped(work: Callable[[], None]) -> None:
    assert in_a_thread(lambda: stopped(work)) == "stopped"


@pytest.mark.parametrize("where", [lambda work: work(), in_a_thread])
def test_what_comes_back_in_time_is_left_alone(where: Callable[[Any], Any]) -> None:
    def work() -> str:
        with limited(SHORT):
            pass
        with limited(None):
            time.sleep(2 * SHORT)
        return "came back"

    assert where(work) == "came back"


def test_an_alarm_that_was_set_before_is_put_back() -> None:
    rung: list[int] = []
    before = signal.signal(signal.SIGALRM, lambda number, frame: rung.append(number))
    try:
        signal.setitimer(signal.ITIMER_REAL, 1000, 7)
        assert stopped(computes) == "stopped"
        left, interval = signal.getitimer(signal.ITIMER_REAL)
        assert 0 < left < 1000 - SHORT
        assert interval == 7
        # One that was due meanwhile rings afterwards.
        signal.setitimer(signal.ITIMER_REAL, SHORT / 5)
        assert stopped(computes) == "stopped"
        while not rung:
            time.sleep(SHORT)
        assert rung == [signal.SIGALRM]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


HANGS = {
    "computes": "while there(): pass",
    "sleeps": "time.sleep(1e6 if there() else 0)",
    "catches": """while there():
                try:
                    while there(): pass
                except Exception:
                    pass""",
}


def hanging(folder: Path, how: str) -> str:
    """A strategy that never comes back from its second experience as long as a certain file is there."""
    file = folder / "hangs.py"
    file.write_text(f"""
import time
from pathlib import Path
from retune import Strategy

def there():
    return Path({str(folder / "stuck")!r}).exists()

class Hangs(Strategy):
    name = "hangs"
    needs = frozenset({{"features"}})
    def fit(self, experience):
        with open({str(folder / "log")!r}, "a") as log:
            print(experience.observed[0], file=log)
        if experience.observed[0] == 7:
            {HANGS[how]}
    def score(self, images):
        return images.features[:, :14]
""")
    (folder / "stuck").touch()
    return str(file)


ARGUMENTS = ["--steps", "2", "--set", "data.images=300", "--set", "data.size=64", "--replicates", "20"]


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> str:
    return features_file(tmp_path_factory.mktemp("features"))


@pytest.mark.parametrize("how", HANGS)
def test_a_run_ends_and_continues_with_more_time(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], backbone: str, how: str
) -> None:
    out = tmp_path / "out"
    command = ["run", "--strategy", hanging(tmp_path, how), "--backbone", backbone, *ARGUMENTS]
    command += ["--out", str(out)]
    assert main([*command, "--time-limit", "0.8"]) == 1
    complaint = capsys.readouterr().err.splitlines()[-1]
    assert complaint.startswith(
        "error: strategy hangs: fit of experience 2 took longer than the time limit of 0.8 s"
    )
    assert sorted(p.name for p in out.iterdir()) == ["checkpoint.safetensors", "run.json"]
    (tmp_path / "stuck").unlink()
    assert main([*command, "--time-limit", "100"]) == 0
    assert (tmp_path / "log").read_text().split() == ["0", "7", "7"]
    # The limit is no part of what the run is.
    assert main([*command]) == 0


def test_a_run_in_a_thread_ends(tmp_path: Path, backbone: str) -> None:
    def work() -> str:
        try:
            retune.run(
                strategy=hanging(tmp_path, "catches"),
                steps=2,
                backbone=backbone,
                settings=SETTINGS,
                replicates=20,
                time_limit=0.8,
                out=tmp_path / "out",
            )
        except StrategyError as error:
            return str(error)
        return "came back"

    assert "fit of experience 2 took longer" in in_a_thread(work)


@pytest.mark.parametrize("seconds", [0, -1, float("inf"), float("nan"), "soon"])
def test_what_is_no_time_is_refused(seconds: Any) -> None:
    with pytest.raises(BadSetting, match="--time-limit"):
        retune.Spec(time_limit=seconds)

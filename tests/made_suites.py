"""Small suites, and strategies that behave badly."""

from __future__ import annotations

import io
import threading
from pathlib import Path
from typing import Any

from rich.console import Console
from safetensors.numpy import load_file

import retune.suite.work
from retune.suite.execute import Outcome, execute
from retune.suite.grid import expand
from retune.suite.plans import Plans, plan_suite
from retune.suite.spec import read_suite
from retune.suite.work import shared, work

SMALL: dict[str, Any] = {
    "scenarios": ["class-incremental"],
    "seeds": 2,
    "steps": 2,
    "replicates": 20,
    "set": {"data.images": 120, "data.size": 64},
}

STRATEGY = """
import itertools, os, signal, time
from pathlib import Path
import torch
from retune import Strategy

class {title}(Strategy):
    name = "{name}"
    optimises = False

    def setup(self, context):
        super().setup(context)
        self.seen = torch.zeros(())

    def fit(self, experience):
        {fit}
        self.seen = self.seen + len(experience)

    def score(self, images):
        return {score}

    def state_dict(self):
        return {{"seen": self.seen}}

    def load_state_dict(self, state):
        self.seen = state["seen"]
"""


def write(
    folder: Path, name: str, *, fit: str = "pass", score: str = "images.features[:, :14] * (1 + self.seen)"
) -> str:
    """A strategy in a file: what it does in fit, and what it answers."""
    file = folder / f"{name}.py"
    file.write_text(STRATEGY.format(title=name.title(), name=name, fit=fit, score=score))
    return str(file)


def dies_once(folder: Path) -> str:
    """Kills its own process in the second experience of seed 0, the first time; logs every experience."""
    marker, log = folder / "killed", folder / "log"
    return write(
        folder,
        "dies",
        fit=f"""
        with open({str(log)!r}, "a") as log:
            log.write(f"{{self.context.seed}}:{{experience.observed[0]}} ")
        if self.context.seed == 0 and experience.observed[0] == 7 and not Path({str(marker)!r}).exists():
            Path({str(marker)!r}).write_text("")
            os.kill(os.getpid(), signal.SIGKILL)
""",
    )


def planned(out: Path, strategies: list[Any], **more: Any) -> Plans:
    """A small suite, planned."""
    read = read_suite(None, {**SMALL, "strategies": strategies, **more})
    return plan_suite(expand(read, shared), out, shared=shared)


def run(out: Path, strategies: list[Any], workers: int = 2, **more: Any) -> Outcome:
    """A small suite, run; nothing is left to wait for when Python ends."""
    others = set(threading.enumerate())
    plans = planned(out, strategies, **more)
    outcome = execute(plans, out, Console(file=io.StringIO()), workers=workers)
    require_nothing_to_wait_for(others)
    return outcome


def require_nothing_to_wait_for(others: set[threading.Thread]) -> None:
    """See that no thread was left behind but one that nobody waits for."""
    left = {thread.name for thread in set(threading.enumerate()) - others}
    assert left <= {"QueueFeederThread"}


def undisturbed(out: Path, strategies: list[Any]) -> dict[str, bytes]:
    """The scores of a small suite that is run without a break, in this process."""
    for job in planned(out, strategies).jobs:
        assert work(job).state == "done"
    return scores(out)


def begin_impatiently(log: str, parent: int) -> None:
    """Begin a process that does not wait long after all time limits."""
    retune.suite.work.GRACE = 1.0  # type: ignore[misc]
    retune.suite.work.begin(log, parent)


def scores(out: Path) -> dict[str, bytes]:
    """The bytes of all scores, by folder."""
    found = sorted(out.glob("runs/*/*/scores.safetensors"))
    return {path.parent.name: load_file(path)["scores"].tobytes() for path in found}

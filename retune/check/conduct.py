"""Checks of how a strategy treats what is not its own."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import torch

from retune.check.checks import require
from retune.check.subject import Subject, same
from retune.check.world import changed, restored, snapshot


def leaves_the_backbone_as_it_is(subject: Subject) -> None:
    """The frozen towers, their modes and gradients are as before."""
    lab = subject.lab
    module = lab.backbone.text_path().module
    try:
        _asked(subject)
        for then, now in zip(lab.untouched, lab.tower(), strict=True):
            odd = [key for key, value in then.items() if key not in now or not same(now[key], value)]
            require(now.keys() == then.keys() and not odd, f"changed in the text tower: {', '.join(odd[:3])}")
        require(all(p.grad is None for p in module.parameters()), "left gradients in the text tower")
    finally:
        lab.mend()


def leaves_its_targets_alone(subject: Subject) -> None:
    """The targets it was given are not changed."""
    strategy = subject.new()
    for part in subject.lab.stream(strategy):
        before = part.targets.clone()
        subject.lab.fit(strategy, [part])
        require(same(part.targets, before), "fit changed the targets it was given")


def changes_nothing_global(subject: Subject) -> None:
    """Random generators, default dtype, threads, working directory, environment and the like stay."""
    left = set(Path.cwd().iterdir())
    with restored():
        # Libraries that are used for the first time set up this and that: not the strategy's doing.
        _asked(subject)
    strategy = subject.unprepared()
    context, parts = subject.lab.context(strategy), subject.lab.stream(strategy)
    before = snapshot()
    # Without the runner's isolation, which would hide it.
    strategy.setup(context)
    for part in parts:
        strategy.fit(part)
    with torch.no_grad():
        strategy.score(subject.lab.tests(strategy))
        strategy.dense(subject.lab.tests(strategy))
    found = changed(before)
    require(not found, f"changed: {', '.join(found)}")
    files = sorted(path.name for path in set(Path.cwd().iterdir()) - left)
    require(not files, f"wrote {', '.join(files)} into the working directory")


def prints_nothing(subject: Subject) -> None:
    """Standard output stays empty: it belongs to results."""
    with contextlib.redirect_stdout(io.StringIO()) as told:
        _asked(subject)
    text = told.getvalue()
    require(not text, f"printed {text[:40]!r}")


def _asked(subject: Subject) -> None:
    """Let it learn and ask it everything."""
    strategy = subject.taught()
    subject.lab.score(strategy)
    subject.lab.dense(strategy)

"""A search of settings that sees no test image and nothing of the future.

Some patients of the stream's first experience are held out; every candidate learns from the others and is judged
by the mean AUROC of these. The best one makes the run. Later experiences take no part in it, for when settings
must be chosen they are not known yet.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from retune.data.dataset import split_by_patient
from retune.errors import StrategyError, UserError
from retune.methods.strategy import Strategy
from retune.metrics import auroc
from retune.progress import Progress
from retune.runner.candidates import Candidates
from retune.runner.guard import TooSlow
from retune.runner.session import Session
from retune.streams.stream import Experience, Stream

HELD_OUT: Final = 0.2
"""The share of the first experience's patients that judge."""


@dataclass(frozen=True)
class Found:
    """What a search found.

    Args:
        candidates: Of each combination its ``settings``, its ``auc`` on the held-out patients, None where it
            failed, and its ``failure`` in words, None where it did not.
        chosen: The settings of the best; of several equally good ones, of the first.
        labels: Names of the labels that judged: those of the first experience of which the held-out
            images show both classes.
        n_train: Images of the first experience that candidates learnt from.
        n_valid: Images of the patients held out.
    """

    candidates: list[dict[str, Any]]
    chosen: dict[str, Any]
    labels: list[str]
    n_train: int
    n_valid: int

    @property
    def best(self) -> int:
        """Which candidate was chosen."""
        return [candidate["settings"] for candidate in self.candidates].index(self.chosen)


def split(stream: Stream, seed: int) -> tuple[Experience, Experience, list[int]]:
    """What candidates learn from, what judges them, and the columns that do.

    Args:
        stream: Of it, the first experience.
        seed: The run's; decides which patients are held out.

    Raises:
        UserError: If nothing is left to learn from, or no label has both classes among the held-out images.
    """
    first = stream.experiences[0]
    patients = stream.dataset.patient_id[first.rows]
    part = split_by_patient(patients, valid=HELD_OUT, test=0.0, salt=f"search {seed}")
    learning, judging = (
        dataclasses.replace(first, rows=first.rows[part == name], targets=first.targets[part == name])
        for name in ("train", "valid")
    )
    shown = [(c, judging.targets[:, c]) for c in first.observed]
    columns = [c for c, column in shown if (column == 1).any() and (column == 0).any()]
    if not len(learning) or not columns:
        lack = (
            "of which no observed label shows both classes"
            if len(learning)
            else "and none is left to learn from"
        )
        raise UserError(
            f"of the first experience's {len(first):,} images {len(judging):,} are held out, {lack}",
            where="--search",
            fix="choose settings by hand with --set",
        )
    return learning, judging, columns


def search(candidates: Candidates, session: Session, progress: Progress) -> Found:
    """Let every candidate learn and judge it.

    Args:
        candidates: What is chosen from.
        session: The run's images.
        progress: Told what is done.

    Raises:
        UserError: If there is nothing to judge by.
        StrategyError: If every candidate fails, or one takes longer than the time limit: what would have
            come of it nobody knows.
    """
    stream = session.stream
    learning, judging, columns = split(stream, session.plan.spec.seed)
    tried: list[dict[str, Any]] = []
    for candidate, settings in zip(candidates.strategies, candidates.settings(), strict=True):
        progress("searching settings", len(tried), len(candidates.strategies))
        auc, failure = None, None
        try:
            auc = _judged(session, candidate, learning, judging, columns)
        except TooSlow:
            raise
        except StrategyError as error:
            failure = str(error)
        tried.append({"settings": settings, "auc": auc, "failure": failure})
    progress("searching settings", len(tried), len(candidates.strategies))
    done = [candidate for candidate in tried if candidate["auc"] is not None]
    if not done:
        raise StrategyError(f"no settings searched can be used; {tried[0]['failure']}")
    best = max(done, key=lambda candidate: candidate["auc"])
    labels = [stream.labels[c] for c in columns]
    return Found(tried, best["settings"], labels, len(learning), len(judging))


def _judged(
    session: Session, candidate: Strategy, learning: Experience, judging: Experience, columns: list[int]
) -> float:
    """Mean AUROC of a candidate, of which a fresh copy learns."""
    learner = session.begin(dataclasses.replace(candidate))  # type: ignore[type-var]
    session.fit(learner, learning, learning.step)
    scores = session.score(learner, judging.rows, learning.step).numpy()
    return float(np.mean(auroc(judging.targets[:, columns], scores[:, columns])))

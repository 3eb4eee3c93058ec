"""A search of settings that sees no test image and nothing of the future.

Some patients of the stream's first experience are held out; every combination of the values asked for learns
from the others and is judged by the mean AUROC of these. The best one makes the run. Later experiences take no
part in it, for when settings must be chosen they are not known yet.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from retune.data.dataset import split_by_patient
from retune.errors import BadSetting, StrategyError, UserError
from retune.settings import typed, values_of
from retune.streams.stream import Experience, Stream
from retune.supervised import TooSlow

if TYPE_CHECKING:
    from retune.lessons import Lessons
    from retune.methods.strategy import Strategy
    from retune.progress import Progress

MOST: Final = 64
"""So many combinations at most."""
HELD_OUT: Final = 0.2
"""The share of the first experience's patients that judge."""
FIX: Final = "write --search lr=1e-4,1e-3"


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


@dataclass(frozen=True)
class Search:
    """A grid of settings.

    Args:
        names: The settings that are searched.
        candidates: A strategy of each combination of their values; the last setting varies fastest.
    """

    names: tuple[str, ...]
    candidates: tuple[Strategy, ...]

    @classmethod
    def make(
        cls,
        grid: Mapping[str, Sequence[Any]],
        build: Callable[[Mapping[str, Any]], Strategy],
        *,
        given: Mapping[str, Any],
    ) -> Search:
        """Build every candidate, which validates every value.

        Args:
            grid: The values of each setting; values may be text.
            build: Makes a strategy from these settings.
            given: What is set already.

        Raises:
            BadSetting: If a value is wrong or given twice, a setting is no strategy's or set as well, or there
                are too many combinations.
        """
        axes = {name.removeprefix("strategy.").replace("-", "_"): values for name, values in grid.items()}
        for name, values in axes.items():
            if "." in name:
                raise BadSetting(f"'{name}' is no setting of the strategy", where="--search", fix=FIX)
            if isinstance(values, str) or not len(values):
                raise BadSetting(f"{name} is given no list of values", where="--search", fix=FIX)
            if name in (key.replace("-", "_") for key in given):
                raise BadSetting(f"{name} is set as well", where="--search", fix="leave out one of them")
        size = math.prod(map(len, axes.values()))
        if size > MOST:
            raise BadSetting(
                f"{size:,} combinations are more than {MOST}", where="--search", fix="give fewer values"
            )
        made = [build(dict(zip(axes, values, strict=True))) for values in itertools.product(*axes.values())]
        search = cls(tuple(axes), tuple(made))
        texts = list(map(json.dumps, search.settings()))
        twice = next((text for text in texts if texts.count(text) > 1), None)
        if twice:
            raise BadSetting(f"{twice} is given twice", where="--search", fix="give each value once")
        return search

    def settings(self) -> list[dict[str, Any]]:
        """What is searched of each candidate's settings, as JSON values."""
        every = [values_of(candidate) for candidate in self.candidates]
        return [{name: values[name] for name in self.names} for values in every]

    def split(self, stream: Stream, seed: int) -> tuple[Experience, Experience, list[int]]:
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
            Experience(first.step, first.observed, first.rows[part == name], first.targets[part == name])
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

    def run(self, lessons: Lessons, progress: Progress) -> Found:
        """Let every candidate learn and judge it.

        Args:
            lessons: The run's images.
            progress: Told what is done.

        Raises:
            UserError: If there is nothing to judge by.
            StrategyError: If every candidate fails, or one takes longer than the time limit: what would have
                come of it nobody knows.
        """
        stream = lessons.stream
        learning, judging, columns = self.split(stream, lessons.plan.spec.seed)
        tried: list[dict[str, Any]] = []
        for candidate, settings in zip(self.candidates, self.settings(), strict=True):
            progress("searching settings", len(tried), len(self.candidates))
            auc, failure = None, None
            try:
                auc = _judged(lessons, candidate, learning, judging, columns)
            except TooSlow:
                raise
            except StrategyError as error:
                failure = str(error)
            tried.append({"settings": settings, "auc": auc, "failure": failure})
        progress("searching settings", len(tried), len(self.candidates))
        done = [candidate for candidate in tried if candidate["auc"] is not None]
        if not done:
            raise StrategyError(f"no settings searched can be used; {tried[0]['failure']}")
        best = max(done, key=lambda candidate: candidate["auc"])
        labels = [stream.labels[c] for c in columns]
        return Found(tried, best["settings"], labels, len(learning), len(judging))


def _judged(
    lessons: Lessons, candidate: Strategy, learning: Experience, judging: Experience, columns: list[int]
) -> float:
    """Mean AUROC of a candidate, of which a fresh copy learns."""
    from retune.metrics import auroc

    learner = lessons.begin(dataclasses.replace(candidate))  # type: ignore[type-var]
    lessons.fit(learner, learning, learning.step)
    scores = lessons.score(learner, judging.rows, learning.step).numpy()
    return float(np.mean(auroc(judging.targets[:, columns], scores[:, columns])))


def parse_search(assignments: Sequence[str]) -> dict[str, list[Any]]:
    """Read ``key=value,value`` texts, or ``key=[...]`` in JSON; later ones win.

    Raises:
        BadSetting: If one has no ``=``, no key or no value.
    """
    grid: dict[str, list[Any]] = {}
    for text in assignments:
        key, _, given = (part.strip() for part in text.partition("="))
        values: Any = [value.strip() for value in given.split(",")]
        if given.startswith("["):
            try:
                values = json.loads(given)
            except ValueError as error:
                raise BadSetting(f"'{given}' is no JSON ({error})", where="--search", fix=FIX) from None
        if not key or "" in values:
            raise BadSetting(f"'{text}' is not key=value,value", where="--search", fix=FIX)
        grid[key] = values
    return grid


def searched(name: str, values: Sequence[Any]) -> str:
    """What :func:`parse_search` reads: one setting and its values."""
    texts = [typed(value) for value in values]
    plain = all(text and text == text.strip() and not set(text) & set(",[{") for text in texts)
    return f"{name}={','.join(texts) if plain else json.dumps(list(values))}"

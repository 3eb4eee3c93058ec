"""Scenarios that each break one demand."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from retune import Dataset, Experience, Scenario, Stream
from retune.streams.cuts import masked, split_patients
from retune.streams.stream import Altered


@dataclass(frozen=True)
class Good(Scenario):
    """Two parts, half of the labels each.

    Args:
        steps: Nothing depends on it.
    """

    name: ClassVar[str] = "good"

    steps: int = 2

    def stream(self, dataset: Dataset, seed: int) -> Stream:
        parts = split_patients(dataset, 2, np.random.default_rng(seed))
        half = len(dataset.labels) // 2
        shown = (range(half), range(half, len(dataset.labels)))
        cut = [
            masked(dataset, k, rows, list(of))
            for k, (rows, of) in enumerate(zip(parts, shown, strict=True), 1)
        ]
        return self.changed(Stream(dataset, tuple(cut), dataset.rows("test")))

    def changed(self, stream: Stream) -> Stream:
        return stream

    def first(self, stream: Stream, **fields: Any) -> Stream:
        """Another first experience."""
        first, *others = stream.experiences
        return replace(stream, experiences=(replace(first, **fields), *others))


class Fails(Good):
    def changed(self, stream: Stream) -> Stream:
        raise KeyError("site")


class LooksAtPictures(Good):
    def changed(self, stream: Stream) -> Stream:
        stream.dataset.images.load(stream.test[:1])
        return stream


class CountsFromZero(Good):
    def changed(self, stream: Stream) -> Stream:
        return replace(stream, experiences=tuple(replace(e, step=e.step - 1) for e in stream.experiences))


class HasNoPaper(Good):
    data: ClassVar[str] = "nih"


class DrawsGlobally(Good):
    def changed(self, stream: Stream) -> Stream:
        np.random.rand()
        return stream


class DependsOnTheGlobalState(Good):
    """It puts the generator back, and so leaves no other trace."""

    def changed(self, stream: Stream) -> Stream:
        drawn = np.random.RandomState()
        drawn.set_state(np.random.get_state())
        first = stream.experiences[0]
        order = drawn.permutation(len(first))
        return self.first(stream, rows=first.rows[order], targets=first.targets[order])


class Unseeded(Good):
    def changed(self, stream: Stream) -> Stream:
        first = stream.experiences[0]
        order = np.random.default_rng().permutation(len(first))
        return self.first(stream, rows=first.rows[order], targets=first.targets[order])


class LosesALabel(Good):
    def changed(self, stream: Stream) -> Stream:
        first = stream.experiences[0]
        return self.first(stream, observed=first.observed[1:], targets=_hidden(first))


class LosesImages(Good):
    def changed(self, stream: Stream) -> Stream:
        first = stream.experiences[0]
        return self.first(stream, rows=first.rows[5:], targets=first.targets[5:])


class ShowsAnImageTwice(Good):
    def changed(self, stream: Stream) -> Stream:
        first = stream.experiences[0]
        twice = np.r_[np.arange(len(first)), 0]
        return self.first(stream, rows=first.rows[twice], targets=first.targets[twice])


class ShowsPatientsAgain(Good):
    def changed(self, stream: Stream) -> Stream:
        first, second = stream.experiences
        rows = np.sort(np.r_[first.rows, second.rows[:3]])
        return self.first(stream, rows=rows, targets=masked(stream.dataset, 1, rows, first.observed).targets)


class TrainsOnTheTest(Good):
    def changed(self, stream: Stream) -> Stream:
        first = stream.experiences[0]
        rows = np.r_[first.rows, stream.test[:4]]
        return self.first(stream, rows=rows, targets=masked(stream.dataset, 1, rows, first.observed).targets)


class TestsOnLess(Good):
    def changed(self, stream: Stream) -> Stream:
        return replace(stream, test=stream.test[::2])


@dataclass(frozen=True)
class HidesOtherwise(Good):
    """It has the setting and does not heed it.

    Args:
        steps: Nothing depends on it.
        hidden: Nothing either.
    """

    hidden: str = "absent"


class GivesLabelsAway(Good):
    def changed(self, stream: Stream) -> Stream:
        return self.first(stream, targets=stream.dataset.targets[stream.experiences[0].rows])


class TakesUnknownForAbsent(Good):
    def changed(self, stream: Stream) -> Stream:
        first = stream.experiences[0]
        targets = first.targets.copy()
        targets[:, list(first.observed)] = np.nan_to_num(targets[:, list(first.observed)])
        return self.first(stream, targets=targets)


class FlipsUndeclared(Good):
    def changed(self, stream: Stream) -> Stream:
        return self.first(stream, targets=_flipped(stream.experiences[0].targets))


class DeclaresAndDoesNotSay(Good):
    alters_labels: ClassVar[Altered] = "flipped"


class FlipsWhereItWithholds(FlipsUndeclared):
    alters_labels: ClassVar[Altered] = "withheld"

    def changed(self, stream: Stream) -> Stream:
        return replace(super().changed(stream), altered="withheld")


class WithholdsWhereItFlips(Good):
    alters_labels: ClassVar[Altered] = "flipped"

    def changed(self, stream: Stream) -> Stream:
        targets = stream.experiences[0].targets.copy()
        targets[0] = np.nan
        return replace(self.first(stream, targets=targets), altered="flipped")


class FlipsTestLabels(Good):
    def changed(self, stream: Stream) -> Stream:
        targets = stream.dataset.targets.copy()
        targets[stream.test] = _flipped(targets[stream.test])
        return replace(stream, dataset=replace(stream.dataset, targets=targets))


class FlipsTheTable(Good):
    """It flips labels where an upper bound sees it, too."""

    def changed(self, stream: Stream) -> Stream:
        flipped = FlipsUndeclared().changed(stream)
        targets = stream.dataset.targets.copy()
        for e in flipped.experiences:
            targets[np.ix_(e.rows, e.observed)] = e.targets[:, list(e.observed)]
        return replace(flipped, dataset=replace(stream.dataset, targets=targets))


class ChangesTheTable(Good):
    def changed(self, stream: Stream) -> Stream:
        stream.dataset.targets[stream.test[0], 0] = np.nan
        return stream


class DependsOnUnreadableImages(Good):
    """Another order of labels where an image is lost."""

    def changed(self, stream: Stream) -> Stream:
        if "unreadable images" not in stream.dataset.dropped:
            return stream
        seen = [e.observed for e in stream.experiences][::-1]
        return replace(
            stream,
            experiences=tuple(
                masked(stream.dataset, e.step, e.rows, of)
                for e, of in zip(stream.experiences, seen, strict=True)
            ),
        )


class Prints(Good):
    def changed(self, stream: Stream) -> Stream:
        print("cut")
        return stream


def _flipped(targets: Any) -> Any:
    """The first three images' labels the other way round."""
    return np.concatenate([1 - targets[:3], targets[3:]])


def _hidden(experience: Experience) -> Any:
    targets = experience.targets.copy()
    targets[:, experience.observed[0]] = np.nan
    return targets

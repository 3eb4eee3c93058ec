"""Ridge regressions of many labels in closed form, exact however the images are parted over time.

A ridge regression needs of its images nothing but their second moments [1 X Y]'[1 X Y], which add up, and so
does the choice of its penalty. Labels with the same history of known images share their moments; every
other label has its own.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import torch

from retune.methods.adaptors import normalised
from retune.methods.given import Context, Images, Training
from retune.methods.linear import LinearStrategy
from retune.methods.strategy import State, Strategy
from retune.settings import Positive

PENALTIES: Final = tuple(10.0 ** (k / 2) for k in range(-8, 17))
"""What a penalty is chosen from: 1e-4 to 1e8 by half decades, for features of about 1."""
BLOCK: Final = 8192
"""Images that are added at a time."""
VARIES: Final = 1e-6
"""Squared deviations of a label's targets from their mean; of targets 1 and -1, two apart give 2."""
RANK: Final = 1e-12
"""Share of the largest eigenvalue below which others are rounding errors."""


@dataclass(frozen=True)
class SharedMoments:
    """Moments of the images on which a group of labels is known.

    Args:
        labels: Their k columns.
        sums: [1 X Y]'[1 X Y] of p features and k targets, float64 (1 + p + k, 1 + p + k).
    """

    labels: tuple[int, ...]
    sums: torch.Tensor

    def take(self, places: Sequence[int]) -> SharedMoments:
        """The same moments for some of the labels.

        Args:
            places: Places in ``labels``.
        """
        p = len(self.sums) - len(self.labels)
        index = torch.tensor([*range(p), *(p + place for place in places)], device=self.sums.device)
        return SharedMoments(tuple(self.labels[place] for place in places), self.sums[index][:, index])

    def add(self, features: torch.Tensor, targets: torch.Tensor) -> SharedMoments:
        """The moments with further images.

        Args:
            features: (n, p), float64.
            targets: (n, k), without NaN, float64.
        """
        rows = torch.cat([features.new_ones(len(features), 1), features, targets], dim=1)
        return SharedMoments(self.labels, self.sums + rows.T @ rows)

    def centred(self) -> torch.Tensor:
        """Moments (p + k, p + k) about the mean; zeros without images."""
        first = self.sums[0]
        return self.sums[1:, 1:] - first[1:, None] * first[1:] / first[0].clamp(min=1)

    def varying(self) -> list[int]:
        """Places of the labels whose targets are not all alike."""
        spread = self.centred().diagonal()[-len(self.labels) :]
        places: list[int] = (spread > VARIES).nonzero().flatten().tolist()
        return places

    def solve(self, penalty: float | None = None) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Minimise |Y - X w - b|^2 + penalty |w|^2 for each label; the intercept b is not penalised.

        Args:
            penalty: None chooses one of :data:`PENALTIES` for each label by generalised cross-validation
                (Golub, Heath & Wahba, 1979), n RSS / (n - df)^2, which the moments are enough for.

        Returns:
            Weights (k, p), intercepts (k,) and penalties (k,), float64.
        """
        n, means, centred = self.sums[0, 0], self.sums[0] / self.sums[0, 0], self.centred()
        p = len(centred) - len(self.labels)
        values, directions = torch.linalg.eigh(centred[:p, :p])
        real = values > RANK * values[-1]
        values, directions = values[real], directions[:, real]
        along = directions.T @ centred[:p, p:]
        if penalty is None:
            candidates = values.new_tensor(PENALTIES)
            # What the fit leaves of each direction; one minus what it takes would cancel.
            left = candidates[:, None] / (values + candidates[:, None])
            energy = along.square() / values[:, None]
            beyond = centred.diagonal()[p:] - energy.sum(0)
            freedom = n - 1 - len(values)
            # Nothing is beyond the reach of as many directions as there are images, but rounding errors.
            rss = left.square() @ energy + torch.where(freedom > 0, beyond.clamp(min=0), 0.0)
            chosen = candidates[(rss / (freedom + left.sum(1, keepdim=True)).square()).argmin(0)]
        else:
            chosen = along.new_full((along.shape[1],), penalty)
        weight = (directions @ (along / (values[:, None] + chosen))).T
        return weight, means[1 + p :] - weight @ means[1 : 1 + p], chosen


class RidgeMoments:
    """Moments of every label, each over the images on which it is known.

    They are (1 + p + k)^2 doubles for each distinct history: 14 labels with histories of their own take
    2 MB at p = 128, 150 MB at p = 1,152 and 11 GB at p = 10,000; in a class-incremental stream without
    gaps there are as many histories as groups of labels. In single precision they would be half as
    large, and scores off by up to a hundredth of their spread.

    Args:
        dim: Number of features p.
        n_labels: Number of labels C.
        device: Where the moments are.
    """

    def __init__(self, dim: int, n_labels: int, device: str) -> None:
        size = 1 + dim + n_labels
        nothing = torch.zeros(size, size, dtype=torch.float64, device=device)
        self.groups = [SharedMoments(tuple(range(n_labels)), nothing)]

    def add(self, features: torch.Tensor, targets: torch.Tensor) -> None:
        """Take in images.

        Args:
            features: (n, p), float64.
            targets: (n, C); NaN where unknown.
        """
        known = ~torch.isnan(targets)
        groups = []
        for group in self.groups:
            alike: dict[bytes, list[int]] = {}
            for place, label in enumerate(group.labels):
                alike.setdefault(known[:, label].cpu().numpy().tobytes(), []).append(place)
            for places in alike.values():
                part = group.take(places)
                rows = known[:, part.labels[0]]
                if rows.any():
                    part = part.add(features[rows], targets[rows][:, list(part.labels)].double())
                groups.append(part)
        self.groups = groups

    def solve(
        self, columns: Sequence[int], penalty: float | None = None
    ) -> Iterator[tuple[list[int], torch.Tensor, torch.Tensor, torch.Tensor]]:
        """Solve for some labels; those whose targets have all been alike so far are left out.

        Args:
            columns: The labels.
            penalty: As :meth:`SharedMoments.solve` takes it.

        Yields:
            Columns, and their weights, intercepts and penalties.
        """
        for group in self.groups:
            chosen = [place for place in group.varying() if group.labels[place] in columns]
            if chosen:
                part = group.take(chosen)
                yield list(part.labels), *part.solve(penalty)

    def state(self) -> dict[str, Any]:
        """Labels of each group, and its moments as ``moments.0``, ``moments.1`` ..."""
        sums = {f"moments.{i}": group.sums for i, group in enumerate(self.groups)}
        return {"groups": [list(group.labels) for group in self.groups], **sums}

    def load(self, state: Mapping[str, Any]) -> None:
        """Take up what :meth:`state` gave."""
        device = self.groups[0].sums.device
        self.groups = [
            SharedMoments(tuple(labels), state[f"moments.{i}"].to(device))
            for i, labels in enumerate(state["groups"])
        ]


@dataclass
class RidgeRegression(Strategy):
    """Ridge regression of targets 1 and -1 on fixed functions of what is seen of an image.

    Args:
        penalty: Of the squared norm of each label's weights; none chooses it for each label by generalised
            cross-validation on all training images so far.
    """

    # Weights are solved for from the moments.
    statistics: ClassVar[frozenset[str]] = frozenset({"moments", "penalties"})
    optimises: ClassVar[bool] = False

    penalty: Positive | None = None

    @abstractmethod
    def seen(self, images: Images) -> torch.Tensor:
        """What is seen of images, (N, w)."""

    @abstractmethod
    def regressors(self, seen: torch.Tensor) -> torch.Tensor:
        """What is regressed on, float64 (N, :meth:`width`); called with some rows at a time.

        Args:
            seen: As :meth:`seen` gives it, (N, w).
        """

    @abstractmethod
    def width(self) -> int:
        """How many numbers :meth:`regressors` gives."""

    def unlearnt(self, seen: torch.Tensor) -> torch.Tensor:
        """Scores (N, C) of labels until both a positive and a negative image have been seen: all alike."""
        return seen.new_zeros(len(seen), len(self.context.labels), dtype=torch.float32)

    def setup(self, context: Context) -> None:
        """Begin without any moments; see :meth:`Strategy.setup`."""
        super().setup(context)
        n_labels, device = len(context.labels), context.device
        self.moments = RidgeMoments(self.width(), n_labels, device)
        self.head = torch.zeros(n_labels, self.width(), dtype=torch.float64, device=device)
        self.intercept = torch.zeros(n_labels, dtype=torch.float64, device=device)
        # 0 until the label is learnt.
        self.penalties = torch.zeros(n_labels, dtype=torch.float64, device=device)

    def fit(self, experience: Training) -> None:
        """Add to the moments, then solve for the labels that are observed."""
        seen, signs = self.seen(experience.images), 2 * experience.targets - 1
        for block in torch.arange(len(seen), device=seen.device).split(BLOCK):
            self.moments.add(self.regressors(seen[block]), signs[block])
        for columns, weight, intercept, penalty in self.moments.solve(experience.observed, self.penalty):
            self.head[columns], self.intercept[columns], self.penalties[columns] = weight, intercept, penalty

    def score(self, images: Images) -> torch.Tensor:
        """Float32 (N, C): the regressed sign, between -1 and 1 or near it; as at the start for other labels."""
        seen = self.seen(images)
        # In double precision: a row must not depend on how a product over many features is blocked.
        regressed = self.regressors(seen) @ self.head.T + self.intercept
        return torch.where(self.penalties > 0, regressed.float(), self.unlearnt(seen))

    def state_dict(self) -> State:
        """Weights (C, p), intercepts (C,) and penalties (C,) of the labels learnt, and the moments."""
        solved = {"head": self.head, "intercept": self.intercept, "penalties": self.penalties}
        return {**solved, **self.moments.state()}

    def load_state_dict(self, state: State) -> None:
        """Take up what was solved, and the moments."""
        self.head, self.intercept, self.penalties = (
            state[key].to(self.context.device) for key in ("head", "intercept", "penalties")
        )
        self.moments.load(state)

    def trainable_parameters(self) -> int:
        """C (p + 1)."""
        return self.head.numel() + self.intercept.numel()

    def diagnostics(self) -> Mapping[str, Any]:
        """The penalty of each label learnt."""
        penalties = zip(self.context.labels, self.penalties.tolist(), strict=True)
        return {"penalty": {label: penalty for label, penalty in penalties if penalty > 0}}


@dataclass
class RidgeStrategy(RidgeRegression, LinearStrategy):
    """Ridge regression on fixed functions of the normalised features; until it is learnt, a label may score by prompts.

    Args:
        start: What a label scores until both a positive and a negative image have been seen.
        penalty: Of the squared norm of each label's weights; none chooses it.
    """

    def seen(self, images: Images) -> torch.Tensor:
        """Features (N, d)."""
        return images.features

    def regressors(self, seen: torch.Tensor) -> torch.Tensor:
        """Of the normalised features."""
        return self.lift(normalised(seen.double()))

    @abstractmethod
    def lift(self, unit: torch.Tensor) -> torch.Tensor:
        """What is regressed on.

        Args:
            unit: Normalised features, float64 (N, d).

        Returns:
            float64 (N, :meth:`width`).
        """

    def unlearnt(self, seen: torch.Tensor) -> torch.Tensor:
        """As the linear classifier starts."""
        return self.logits(normalised(seen))

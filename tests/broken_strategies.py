"""Strategies that each break one demand of the contract, and the one that keeps them all."""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch.nn.functional import normalize

from retune import Context, Images, Strategy, Training
from retune.methods.strategy import State

ZEROS = torch.zeros(2)


@dataclass
class Good(Strategy):
    """Zero-shot scores plus the similarity to the mean of each label's positive images."""

    name: ClassVar[str] = "good"
    needs = frozenset({"features", "joint"})

    weight: float = 0.5

    def setup(self, context: Context) -> None:
        self.context = context
        self.sums = torch.zeros(len(context.labels), context.dim, dtype=torch.float32)

    def fit(self, experience: Training) -> None:
        self.sums = self.sums + (experience.targets == 1).float().T @ normalize(experience.images.features)

    def score(self, images: Images) -> torch.Tensor:
        features = images.features
        prompts = self.context.prompts.score(features, "embeddings", "difference")
        return prompts + self.weight * normalize(features) @ normalize(self.sums).T

    def state_dict(self) -> State:
        return {"sums": self.sums}

    def load_state_dict(self, state: State) -> None:
        self.sums = state["sums"]


class LacksScore(Strategy):
    name = "lacks-score"

    def fit(self, experience: Training) -> None: ...


class Fails(Good):
    def fit(self, experience: Training) -> None:
        raise ValueError("no such luck")


class NeverReturns(Good):
    def fit(self, experience: Training) -> None:
        while True:
            try:
                time.sleep(0.01)
            except Exception:
                continue


class HangsOnUnknownLabels(Good):
    def fit(self, experience: Training) -> None:
        super().fit(experience)
        if experience.targets.isnan().any():
            time.sleep(60)


class HasNoName(Good):
    name: ClassVar[str] = ""


class HasNoVersion(Good):
    version: ClassVar[str] = ""


class LivesElsewhere(Good):
    name: ClassVar[str] = "../good"


class MistypesItsNeeds(Good):
    needs = frozenset({"featurs", "joint"})  # type: ignore[arg-type]


class NeedsAText(Good):
    needs = "features"  # type: ignore[assignment]


class ForgetsTheDataclass(Good):
    rate: float = 1e-3


class TakesArguments(Good):
    def __init__(self, rate: float = 1e-3, depth: int = 2) -> None:
        super().__init__()


@dataclass
class HasAListOfItsOwn(Good):
    layers: list[int] = field(default_factory=lambda: [1, 2])


@dataclass
class HasATensorForASetting(Good):
    start: Any = ZEROS


@dataclass
class LetsItsNameBeSet(Good):
    name: str = "good"  # type: ignore[misc]


class SaysItTrainedNothing(Good):
    def trainable_parameters(self) -> int:
        return 0


class SaysItTrainedABillion(Good):
    def trainable_parameters(self) -> int:
        return 10**9


class NeedsWhatNobodyHas(Good):
    needs = frozenset({"features", "joint", "clairvoyance"})  # type: ignore[arg-type]


class HasABadPreset(Good):
    presets: ClassVar[dict[str, dict[str, Any]]] = {"paper": {"no_such_setting": 1}}


class TellsASet(Good):
    def diagnostics(self) -> dict[str, Any]:
        return {"labels": set(self.context.labels)}


def spread(features: torch.Tensor, height: int = 2, width: int = 2) -> torch.Tensor:
    """Maps of the first eight values of vectors."""
    return features[:, :8, None, None].expand(-1, -1, height, width)


class Mapping(Good):
    needs = frozenset({"features", "joint", "tokens"})


class MapsABatch(Mapping):
    def dense(self, images: Images) -> torch.Tensor:
        values = spread(images.features)
        return values - values.mean(dim=0)


class MapsNoSquare(Mapping):
    def dense(self, images: Images) -> torch.Tensor:
        return spread(images.features, 2, 3)


class MapsInDoubles(Mapping):
    def dense(self, images: Images) -> torch.Tensor:
        return spread(images.features).double()


class MapsAnArray(Mapping):
    def dense(self, images: Images) -> Any:
        return spread(images.features).numpy()


class MapsNothingNumbers(Mapping):
    def dense(self, images: Images) -> torch.Tensor:
        return spread(images.features) / 0


class MapsLargerForMany(Mapping):
    def dense(self, images: Images) -> torch.Tensor:
        return spread(images.features, *(2, 2) if len(images) > 1 else (1, 1))


class MapsSome(Mapping):
    def dense(self, images: Images) -> torch.Tensor | None:
        return spread(images.features) if len(images) > 1 else None


class MapsVectors(Good):
    def dense(self, images: Images) -> torch.Tensor:
        return spread(images.features)


class LearnsWhileItMaps(Mapping):
    def dense(self, images: Images) -> None:
        self.sums = self.sums + 1


class KeepsWhatItMaps(Mapping):
    def dense(self, images: Images) -> None:
        self.seen = images.features


class PrintsWhileItMaps(Mapping):
    def dense(self, images: Images) -> None:
        print("mapping")


class WritesWhileItMaps(Mapping):
    def dense(self, images: Images) -> None:
        torch.save(self.sums, "maps.pt")


class ForgetsItsMapsOnResuming(Mapping):
    steps = 0

    def fit(self, experience: Training) -> None:
        super().fit(experience)
        self.steps += 1

    def dense(self, images: Images) -> torch.Tensor | None:
        return spread(images.features) if self.steps else None


class LeavesALabelOut(Good):
    def score(self, images: Images) -> torch.Tensor:
        return super().score(images)[:, 1:]


class ScoresInDoubles(Good):
    def score(self, images: Images) -> torch.Tensor:
        return super().score(images).double()


class ScoresInWholeNumbers(Good):
    def score(self, images: Images) -> torch.Tensor:
        return super().score(images).long()


class ScoresNothingUntrained(Good):
    """NaN before the first experience."""

    def setup(self, context: Context) -> None:
        super().setup(context)
        self.trained = False

    def fit(self, experience: Training) -> None:
        super().fit(experience)
        self.trained = True

    def score(self, images: Images) -> torch.Tensor:
        return super().score(images) / torch.tensor(float(self.trained))

    def state_dict(self) -> State:
        return {"sums": self.sums, "trained": self.trained}

    def load_state_dict(self, state: State) -> None:
        self.sums, self.trained = state["sums"], state["trained"]


class ScoresDiffer(Good):
    def score(self, images: Images) -> torch.Tensor:
        self.calls = getattr(self, "calls", 0) + 1
        return super().score(images) + 1e-7 * self.calls


class DrawsFromTheClock(Good):
    def fit(self, experience: Training) -> None:
        super().fit(experience)
        noise = torch.Generator().manual_seed(time.perf_counter_ns() % 2**31)
        self.sums = self.sums + 1e-3 * torch.randn(self.sums.shape, generator=noise)


class ForgetsOnResuming(Good):
    """The step it counts, which weighs what follows, is in no state."""

    def setup(self, context: Context) -> None:
        super().setup(context)
        self.step = 0

    def fit(self, experience: Training) -> None:
        before = self.sums
        self.step += 1
        super().fit(experience)
        self.sums = before + (self.sums - before) / self.step


class KeepsAnArray(Good):
    def state_dict(self) -> State:
        return {"sums": self.sums.numpy().copy()}

    def load_state_dict(self, state: State) -> None:
        self.sums = torch.from_numpy(state["sums"])


class KeepsATuple(Good):
    def state_dict(self) -> State:
        return {"sums": self.sums, "labels": tuple(self.context.labels)}


class StoresTheTower(Good):
    needs = frozenset({"features", "joint", "text-gradients"})

    def state_dict(self) -> State:
        assert self.context.towers is not None
        frozen = max(self.context.towers.text_path().module.parameters(), key=torch.numel)
        return {"sums": self.sums, "frozen": frozen.detach().clone()}


class TakesUnknownForAbsent(Good):
    def fit(self, experience: Training) -> None:
        signs = experience.targets.nan_to_num(0) * 2 - 1
        self.sums = self.sums + signs.T @ normalize(experience.images.features)
        self.bias = getattr(self, "bias", 0) + signs.mean(dim=0)

    def score(self, images: Images) -> torch.Tensor:
        return super().score(images) + getattr(self, "bias", 0)

    def state_dict(self) -> State:
        return {"sums": self.sums, "bias": torch.as_tensor(getattr(self, "bias", 0))}

    def load_state_dict(self, state: State) -> None:
        self.sums, self.bias = state["sums"], state["bias"]


class PeeksUnderTheMask(Good):
    def fit(self, experience: Training) -> None:
        super().fit(experience)
        self.sums = self.sums + torch.signbit(experience.targets).float().mean()


class DividesByTheClasses(Good):
    """The mean of the images without a label, which there may be none of."""

    def fit(self, experience: Training) -> None:
        super().fit(experience)
        for c in experience.observed:
            known = experience.targets[:, c].isfinite()
            absent = experience.targets[:, c] == 0
            if known.sum() > 2:
                self.sums[c] -= normalize(experience.images.features)[absent].mean(dim=0)


class DividesByTheKnown(Good):
    def fit(self, experience: Training) -> None:
        super().fit(experience)
        for c in experience.observed:
            self.sums[c] /= experience.targets[:, c].isfinite().sum()


class TakesTheSpread(Good):
    """Over one image less, as a standard deviation is: of a single one it is none."""

    def fit(self, experience: Training) -> None:
        super().fit(experience)
        self.sums = self.sums / (len(experience) - 1)


class CentresTheBatch(Good):
    def score(self, images: Images) -> torch.Tensor:
        scores = super().score(images)
        return scores - scores.mean(dim=0)


class RereadsThePast(Good):
    def fit(self, experience: Training) -> None:
        self.past = [*getattr(self, "past", []), experience.images]
        _ = [images.features for images in self.past]
        super().fit(experience)


class KeepsAGraph(Good):
    """It declares the samples it keeps; the graph of a loss holds all the others."""

    keeps_samples: ClassVar[bool] = True

    def setup(self, context: Context) -> None:
        super().setup(context)
        self.kept = torch.zeros(0, context.dim)

    def fit(self, experience: Training) -> None:
        super().fit(experience)
        features = experience.images.features
        self.kept = torch.cat([self.kept, features[::2]])
        self.graph = (features * torch.ones(1, requires_grad=True)).sum()

    def state_dict(self) -> State:
        return {"sums": self.sums, "memory.features": self.kept}

    def load_state_dict(self, state: State) -> None:
        self.sums, self.kept = state["sums"], state["memory.features"]


class KeepsCopies(Good):
    def fit(self, experience: Training) -> None:
        super().fit(experience)
        self.kept = [*getattr(self, "kept", []), experience.images.features.clone()]


class KeepsCopiesElsewhere(Good):
    everybodys: ClassVar[list[torch.Tensor]] = []

    def fit(self, experience: Training) -> None:
        super().fit(experience)
        self.everybodys.append(experience.images.features.double())


class KeepsAFew(Good):
    """Never more than three, so that nothing grows."""

    def fit(self, experience: Training) -> None:
        super().fit(experience)
        self.kept = normalize(experience.images.features[:3]).numpy().copy()


class KeepsTargetsInItsState(Good):
    def setup(self, context: Context) -> None:
        super().setup(context)
        self.seen: list[list[int]] = []

    def fit(self, experience: Training) -> None:
        super().fit(experience)
        self.seen = [*self.seen, *(experience.targets == 1).int().tolist()]

    def state_dict(self) -> State:
        return {"sums": self.sums, "seen": self.seen}

    def load_state_dict(self, state: State) -> None:
        self.sums, self.seen = state["sums"], state["seen"]


class KeepsTargetsAsHandedOver(Good):
    """NaN where unknown, and declared."""

    keeps_samples: ClassVar[bool] = True

    def setup(self, context: Context) -> None:
        super().setup(context)
        self.targets = torch.zeros(0, len(context.labels))

    def fit(self, experience: Training) -> None:
        super().fit(experience)
        self.targets = torch.cat([self.targets, experience.targets])

    def state_dict(self) -> State:
        return {"sums": self.sums, "memory.targets": self.targets}

    def load_state_dict(self, state: State) -> None:
        self.sums, self.targets = state["sums"], state["memory.targets"]


class DeclaresWhatItDoesNotKeep(Good):
    keeps_samples: ClassVar[bool] = True


class KeepsWhatItDoesNotDeclare(KeepsAGraph):
    keeps_samples: ClassVar[bool] = False

    def fit(self, experience: Training) -> None:
        super().fit(experience)
        del self.graph


class ChangesItsTargets(Good):
    def fit(self, experience: Training) -> None:
        super().fit(experience)
        experience.targets.nan_to_num_(0)


class TrainsTheFrozenTower(Good):
    needs = frozenset({"features", "joint", "text-gradients"})

    def fit(self, experience: Training) -> None:
        super().fit(experience)
        assert self.context.towers is not None
        with torch.no_grad():
            next(self.context.towers.text_path().module.parameters()).add_(1e-3)


class UnfreezesTheTower(Good):
    needs = frozenset({"features", "joint", "text-gradients"})

    def fit(self, experience: Training) -> None:
        super().fit(experience)
        assert self.context.towers is not None
        self.context.towers.text_path().module.train()


class SetsTheDefaultDtype(Good):
    def score(self, images: Images) -> torch.Tensor:
        scores = super().score(images)
        torch.set_default_dtype(torch.float64)
        return scores


class SeedsEverything(Good):
    def fit(self, experience: Training) -> None:
        torch.manual_seed(experience.seed)
        # Not as any other test does: one that ran before would have left the same state.
        random.seed(f"{experience.seed} and everything")
        super().fit(experience)


class SetsTheEnvironment(Good):
    def setup(self, context: Context) -> None:
        super().setup(context)
        os.environ["OMP_NUM_THREADS_OF_MINE"] = "4"


class WritesAFile(Good):
    def fit(self, experience: Training) -> None:
        super().fit(experience)
        torch.save(self.sums, "sums.pt")


class Prints(Good):
    def fit(self, experience: Training) -> None:
        super().fit(experience)
        print("fitting ...", len(experience), Counter())

"""The loop: before training, then experience after experience, with a checkpoint after each."""

from __future__ import annotations

import importlib
import random
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch

from retune.backbones.arithmetic import repeatable
from retune.checkpoint import Checkpoint
from retune.data.dataset import Dataset, FloatArray, IntArray
from retune.errors import RetuneError, StrategyError
from retune.features import Encoded, ImageKind, encode_images, encode_texts
from retune.heap import keep_freed_memory
from retune.memory import Stored, metered
from retune.metrics import best_f1_threshold
from retune.prompts import PromptBank
from retune.prompts.combine import PromptEmbeddings
from retune.strategy import Context, Images, Need, State, Strategy, Training, training
from retune.stream import Stream
from retune.towers import Towers

if TYPE_CHECKING:
    from retune.backbones.base import Backbone
    from retune.runner import Plan

Progress = Callable[[str, int, int], None]


@dataclass
class Outcome:
    """What learning over a stream gave.

    Args:
        stream: The stream, without images that could not be read.
        scores: Test scores before training and after each experience, float32 (T+1, N, C).
        thresholds: Per label, frozen when it was first learnt; NaN where it never was.
        strategy: After the last experience.
        fit_seconds: Wall time of fitting, over interruptions.
        score_seconds: Wall time of scoring.
        encode_seconds: Wall time of decoding and encoding in the process that finished.
        images_encoded: How many images went through the encoder in it.
        unreadable: Identifiers of the images that were left out because they cannot be read.
        stored: The most that was kept of past images after any experience.
    """

    stream: Stream
    scores: torch.Tensor
    thresholds: FloatArray
    strategy: Strategy
    fit_seconds: float = 0.0
    score_seconds: float = 0.0
    encode_seconds: float = 0.0
    images_encoded: int = 0
    unreadable: list[str] = field(default_factory=list)
    stored: Stored = field(default_factory=Stored)


@dataclass(frozen=True)
class _Rows:
    """Some values of the store, copied out when rows are asked for; a :class:`retune.strategy.Lazy`."""

    encoded: Encoded
    places: IntArray
    device: str
    float32: bool

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.places), *self.encoded.take(self.places[:0]).shape[1:])

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: torch.Tensor) -> torch.Tensor:
        return self._copied(self.places[index.cpu().numpy()])

    def itself(self) -> _Rows:
        """What is handed to a strategy that reads batch by batch."""
        return self

    def whole(self) -> torch.Tensor:
        """All of them."""
        return self._copied(self.places)

    def _copied(self, places: IntArray) -> torch.Tensor:
        values = torch.from_numpy(self.encoded.take(places)).to(self.device)
        return values.float() if self.float32 else values


@dataclass(frozen=True)
class _Inputs:
    """What a strategy needs of the images of a stream, by kind."""

    encoded: dict[ImageKind, Encoded]
    place: IntArray = field(repr=False)
    device: str

    def images(self, rows: IntArray) -> Images:
        """Some rows as a strategy may see them."""
        places = self.place[rows]
        sources: dict[str, Callable[[], Any]] = {}
        for kind, encoded in self.encoded.items():
            values = _Rows(encoded, places, self.device, float32=kind != "pixels")
            if kind == "images":
                sources["features"] = values.whole
            else:
                sources[kind] = values.itself
        return Images(len(rows), sources)


def learn(plan: Plan, folder: Path, progress: Progress) -> Outcome:
    """Encode what was never encoded, then fit and score through the stream.

    Args:
        plan: The run.
        folder: Where its checkpoint is.
        progress: Told what is done.
    """
    keep_freed_memory()
    # The first optimiser of a process imports this for a second: no method is to be charged for it.
    importlib.import_module("torch._dynamo")
    with repeatable(plan.parts.backbone.torch_device):
        return _learn(plan, folder, progress)


def _learn(plan: Plan, folder: Path, progress: Progress) -> Outcome:
    stream, inputs, outcome_costs = _encode(plan, progress)
    strategy, seed, backbone = plan.parts.strategy, plan.spec.seed, plan.parts.backbone
    wanted = bool(strategy.requires() & {"joint", "texts"})
    prompts = embed_prompts(plan.parts.bank, backbone, stream.labels, wanted=wanted).to(inputs.device)
    with _isolated(seed):
        towers = Towers(backbone, strategy.requires(), inputs.device)
        strategy.setup(
            Context(
                stream.labels,
                backbone.card.dim,
                prompts,
                seed,
                device=inputs.device,
                bank=plan.parts.bank,
                towers=towers,
            )
        )
    outcome = Outcome(
        stream,
        torch.empty(0, len(stream.test), len(stream.labels)),
        np.full(len(stream.labels), np.nan, dtype=np.float32),
        strategy,
        **outcome_costs,
    )
    _resume(outcome, folder, plan.id)
    if not len(outcome.scores):
        outcome.scores = _scored(outcome, inputs, stream.test)[None]
    _, patients = np.unique(stream.dataset.patient_id, return_inverse=True)
    for experience in stream.experiences[len(outcome.scores) - 1 :]:
        progress("learning", experience.step - 1, len(stream))
        if strategy.sees_everything and experience.step > 1:
            latest = outcome.scores[-1]
        else:
            shown = stream.joint() if strategy.sees_everything else experience
            reports = _reports(stream.dataset, shown.rows)
            seen = training(
                shown, inputs.images(shown.rows), seed, inputs.device, reports, patients[shown.rows]
            )
            # Small maps on features lose accuracy in half precision and gain little: towers alone use it.
            with backbone.arithmetic() if strategy.requires() & IN_TOWERS else nullcontext():
                _fit(outcome, seen)
            latest = _scored(outcome, inputs, stream.test)
            fresh = [c for c in seen.observed if np.isnan(outcome.thresholds[c])]
            train_scores = _scored(outcome, inputs, shown.rows).numpy()
            for c in fresh:
                outcome.thresholds[c] = best_f1_threshold(shown.targets[:, c], train_scores[:, c])
        outcome.scores = torch.cat([outcome.scores, latest[None]])
        state = strategy.state_dict()
        outcome.stored = outcome.stored.most(metered(state))
        _checkpoint(outcome, plan.id, state).write(folder)
    progress("learning", len(stream), len(stream))
    return outcome


def _reports(dataset: Dataset, rows: IntArray) -> tuple[str, ...] | None:
    if "report" not in dataset.columns:
        return None
    return tuple(map(str, dataset.columns["report"][rows].tolist()))


def embed_prompts(
    bank: PromptBank, backbone: Backbone, labels: tuple[str, ...], *, wanted: bool = True
) -> PromptEmbeddings:
    """Embeddings of a bank's prompts for some labels, from the feature store.

    Args:
        bank: Must have prompts for every label.
        backbone: Whose text tower embeds them; without the capability ``texts`` there are no prompts.
        labels: The C labels.
        wanted: Whether anybody asks for them.
    """
    sides: dict[str, torch.Tensor] = {}
    text_dim = backbone.card.text_dim or backbone.card.dim
    able = wanted and "texts" in backbone.capabilities
    for polarity, of in (("positive", bank.positive), ("negative", bank.negative)):
        texts = [text for label in labels for text in of(label)] if able else []
        index = [c for c, label in enumerate(labels) for _ in of(label)] if able else []
        vectors = encode_texts(backbone, texts) if texts else np.zeros((0, text_dim), np.float32)
        sides[polarity] = torch.from_numpy(vectors)
        sides[f"{polarity}_label"] = torch.tensor(index, dtype=torch.int64)
    return PromptEmbeddings(**sides, labels=labels)


IN_TOWERS: Final[frozenset[Need]] = frozenset({"pixels", "text-gradients", "trainable-tower"})
"""A strategy with one of these needs computes in the backbone's towers while it learns."""

SCORED: Final = 16_384
"""Images scored at a time."""
KINDS: Final[dict[Need, ImageKind]] = {"features": "images", "tokens": "tokens", "pixels": "pixels"}


def _encode(plan: Plan, progress: Progress) -> tuple[Stream, _Inputs, dict[str, Any]]:
    stream, rows, backbone = plan.stream, plan.rows, plan.parts.backbone
    needs = plan.parts.strategy.requires()
    encoded = {
        kind: encode_images(
            backbone,
            stream.dataset,
            rows,
            kind=kind,
            keys=plan.content,
            skip_bad_images=plan.spec.skip_bad_images,
            progress=partial(progress, "encoding images" if need == "features" else f"preparing {need}"),
        )
        for need, kind in KINDS.items()
        if need in needs
    }
    # Whether a picture can be read does not depend on what is made of it.
    good = np.logical_and.reduce([e.good for e in encoded.values()] or [np.ones(len(rows), dtype=bool)])
    place = np.full(len(stream.dataset), -1, dtype=np.int64)
    place[rows[good]] = np.arange(int(good.sum()))
    lost = rows[~good]
    costs = {
        "encode_seconds": sum(e.seconds for e in encoded.values()),
        "images_encoded": sum(e.images_encoded for kind, e in encoded.items() if kind != "pixels"),
        "unreadable": sorted(stream.dataset.image_id[lost].tolist()),
    }
    if len(lost):
        kept = np.setdiff1d(np.arange(len(stream.dataset)), lost)
        dataset = stream.dataset.take(kept, dropped={"unreadable images": len(lost)})
        stream, place = plan.parts.scenario.stream(dataset, plan.spec.seed), place[kept]
    return stream, _Inputs(encoded, place, str(backbone.torch_device)), costs


def _fit(outcome: Outcome, seen: Training) -> None:
    start = time.perf_counter()
    with _isolated(seen.seed), _blamed(outcome.strategy, "fit"):
        outcome.strategy.fit(seen)
    outcome.fit_seconds += time.perf_counter() - start


def _scored(outcome: Outcome, inputs: _Inputs, rows: IntArray) -> torch.Tensor:
    """Scores of some images, (N, C), so many at a time that a method's intermediate results stay small."""
    start = time.perf_counter()
    parts = []
    for first in range(0, max(1, len(rows)), SCORED):
        images = inputs.images(rows[first : first + SCORED])
        with torch.no_grad(), _isolated(0), _blamed(outcome.strategy, "score"):
            scores = outcome.strategy.score(images)
        _require_scores(scores, (len(images), len(outcome.stream.labels)), outcome.strategy.name)
        parts.append(scores.detach().float().cpu())
    outcome.score_seconds += time.perf_counter() - start
    return torch.cat(parts)


def _require_scores(scores: object, shape: tuple[int, int], name: str) -> None:
    if not isinstance(scores, torch.Tensor) or tuple(scores.shape) != shape:
        given = tuple(scores.shape) if isinstance(scores, torch.Tensor) else type(scores).__name__
        raise StrategyError(f"strategy {name}: score returned {given}, not a tensor of shape {shape}")
    if not bool(torch.isfinite(scores).all()):
        raise StrategyError(f"strategy {name}: score returned NaN or infinity")


def _resume(outcome: Outcome, folder: Path, run_id: str) -> None:
    found = Checkpoint.read(folder, run_id)
    if found is None or found.scores.shape[1:] != outcome.scores.shape[1:]:
        return
    outcome.strategy.load_state_dict(found.state)
    outcome.scores = found.scores
    thresholds = [np.nan if t is None else t for t in found.progress["thresholds"]]
    outcome.thresholds = np.array(thresholds, dtype=np.float32)
    outcome.fit_seconds = found.progress["fit_seconds"]
    outcome.score_seconds = found.progress["score_seconds"]
    outcome.stored = Stored(**found.progress["stored"])


def _checkpoint(outcome: Outcome, run_id: str, state: State) -> Checkpoint:
    progress = {
        "thresholds": [None if np.isnan(t) else float(t) for t in outcome.thresholds],
        "fit_seconds": outcome.fit_seconds,
        "score_seconds": outcome.score_seconds,
        "stored": asdict(outcome.stored),
    }
    return Checkpoint(run_id, outcome.scores, state, progress)


@contextmanager
def _blamed(strategy: Strategy, doing: str) -> Iterator[None]:
    """Say in one line where a strategy failed."""
    try:
        yield
    except RetuneError:
        raise
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{Path(last.filename).name}, line {last.lineno}"
        raise StrategyError(
            f"strategy {strategy.name} failed in {doing}: {type(error).__name__}: {error} ({place})"
        ) from error


@contextmanager
def _isolated(seed: int) -> Iterator[None]:
    """Seed the global random generators for a plugin that uses them, and put them back after."""
    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed % 2**32)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)

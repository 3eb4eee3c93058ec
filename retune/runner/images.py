"""The images and prompts of a run, encoded once ever, and what of them a strategy may see, and how long."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import torch

from retune.backbones.base import Backbone
from retune.data.attributes import attributes, lacks_attributes
from retune.data.dataset import Array, Dataset, IntArray
from retune.errors import StrategyError, UserError
from retune.features.encode import Encoded, ImageKind, encode_images, encode_texts
from retune.methods.given import Images, Need
from retune.progress import Progress
from retune.prompts import PromptBank
from retune.prompts.embeddings import PromptEmbeddings
from retune.runner.plan import Plan, cut_again
from retune.streams.stream import Stream

KINDS: Final[dict[Need, ImageKind]] = {"features": "images", "tokens": "tokens", "pixels": "pixels"}


@dataclass
class View:
    """Images are lent to a strategy: for one experience, and no longer."""

    over: bool = False

    def require(self) -> None:
        """See that they are lent still.

        Raises:
            StrategyError: If they are not.
        """
        if self.over:
            raise StrategyError("asks for images of an earlier call, which belong to the past")


@dataclass(frozen=True)
class LazyRows:
    """Some values of the store, copied out when rows are asked for; a :class:`retune.methods.given.Lazy`."""

    encoded: Encoded
    places: IntArray
    device: str
    float32: bool
    view: View

    @property
    def shape(self) -> tuple[int, ...]:
        """As of an array."""
        return (len(self.places), *self.encoded.take(self.places[:0]).shape[1:])

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: torch.Tensor) -> torch.Tensor:
        return self._copied(self.places[index.cpu().numpy()])

    def itself(self) -> LazyRows:
        """What is handed to a strategy that reads batch by batch."""
        return self

    def whole(self) -> torch.Tensor:
        """All of them."""
        return self._copied(self.places)

    def _copied(self, places: IntArray) -> torch.Tensor:
        self.view.require()
        values = torch.from_numpy(self.encoded.take(places)).to(self.device)
        return values.float() if self.float32 else values


@dataclass(frozen=True)
class Lent:
    """Encoded images of a data set, by kind, and what a strategy sees of them.

    Args:
        encoded: What was made of the images that could be read, for each kind that is needed.
        place: Where each row of the data set is in it; -1 where it is not.
        device: Where values are wanted.
        columns: Of the data set.
    """

    encoded: dict[ImageKind, Encoded]
    place: IntArray
    device: str
    columns: Mapping[str, Array]

    @property
    def seconds(self) -> float:
        """Wall time of decoding and encoding."""
        return sum(e.seconds for e in self.encoded.values())

    @property
    def images_encoded(self) -> int:
        """How many went through the encoder now."""
        return sum(e.images_encoded for kind, e in self.encoded.items() if kind != "pixels")

    @contextmanager
    def view(self, rows: IntArray, needs: frozenset[Need], *, for_good: bool = False) -> Iterator[Images]:
        """Some rows as a strategy may see them: afterwards it can read them no more.

        Args:
            rows: Of the data set.
            needs: What it declared.
            for_good: Whether it may keep them.
        """
        view, places = View(), self.place[rows]
        sources: dict[str, Callable[[], Any]] = {}
        for need, kind in KINDS.items():
            if need in needs:
                values = LazyRows(self.encoded[kind], places, self.device, kind != "pixels", view)
                sources[need] = values.whole if need == "features" else values.itself
        if "table" in needs:
            sources["table"] = lambda: self._told(rows, view)
        try:
            yield Images(len(rows), sources)
        finally:
            view.over = not for_good

    def _told(self, rows: IntArray, view: View) -> torch.Tensor:
        view.require()
        return torch.from_numpy(attributes(self.columns, rows)).to(self.device)


@dataclass(frozen=True)
class Inputs(Lent):
    """The encoded images of a stream.

    Args:
        stream: Without images that could not be read.
        unreadable: Identifiers of these.
    """

    stream: Stream
    unreadable: list[str]


def lend(
    backbone: Backbone,
    dataset: Dataset,
    rows: IntArray,
    needs: frozenset[Need],
    content: list[bytes | None] | None,
    *,
    skip_bad_images: bool,
    progress: Progress,
) -> Lent:
    """Encode what was never encoded of some images of a data set.

    Args:
        backbone: The encoder.
        dataset: Where the images are.
        rows: Which images.
        needs: What of them is needed.
        content: Digests of their content, where already known.
        skip_bad_images: Leave out images that are missing or cannot be decoded.
        progress: Told what is done.
    """
    # Which images can be read is seen by encoding them: who needs none is judged on the same ones.
    needed: frozenset[Need] = needs if needs & set(KINDS) else frozenset({"features"})
    encoded = {
        kind: encode_images(
            backbone,
            dataset,
            rows,
            kind=kind,
            keys=content,
            skip_bad_images=skip_bad_images,
            progress=progress,
        )
        for need, kind in KINDS.items()
        if need in needed
    }
    # Whether a picture can be read does not depend on what is made of it.
    good = np.logical_and.reduce([e.good for e in encoded.values()] or [np.ones(len(rows), dtype=bool)])
    place = np.full(len(dataset), -1, dtype=np.int64)
    place[rows[good]] = np.arange(int(good.sum()))
    return Lent(encoded, place, str(backbone.torch_device), dataset.columns)


def encode(plan: Plan, progress: Progress) -> Inputs:
    """Encode what was never encoded of the images that a run needs.

    Args:
        plan: The run.
        progress: Told what is done.
    """
    stream, rows, backbone = plan.stream, plan.stream.rows, plan.parts.backbone
    skip = plan.spec.skip_bad_images
    lent = lend(
        backbone,
        stream.dataset,
        rows,
        plan.parts.needs,
        plan.content,
        skip_bad_images=skip,
        progress=progress,
    )
    encoded, place = lent.encoded, lent.place
    lost = rows[place[rows] < 0]
    unreadable = sorted(stream.dataset.image_id[lost].tolist())
    if len(lost):
        # By name: a scenario may have taken its own table from the one it was given.
        where = dict(zip(stream.dataset.image_id.tolist(), place.tolist(), strict=True))
        stream = cut_again(plan.parts.scenario, stream, lost, plan.spec.seed)
        place = np.array([where[name] for name in stream.dataset.image_id.tolist()], dtype=np.int64)
        other = stream.dataset.image_id[stream.rows[place[stream.rows] < 0]]
        if len(other):
            raise UserError(
                f"takes other images, such as '{other[0]}', once those that cannot be read are left out",
                where=f"scenario {plan.parts.scenario.name}",
                fix="mend the images, or run it without --skip-bad-images to see which they are",
            )
    contradictions = {text for e in encoded.values() for text in e.contradictions}
    if contradictions:
        note = f"{len(contradictions):,} files contradict themselves, such as {min(contradictions)}"
        dataset = replace(stream.dataset, notes=(*stream.dataset.notes, note))
        stream = replace(stream, dataset=dataset)
    if "table" in plan.parts.needs and lacks_attributes(stream.dataset.columns):
        note = (
            "Its table has no view, no sex and no age: what learns from these alone scores all images alike"
        )
        stream = replace(stream, dataset=replace(stream.dataset, notes=(*stream.dataset.notes, note)))
    return Inputs(encoded, place, lent.device, stream.dataset.columns, stream, unreadable)


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

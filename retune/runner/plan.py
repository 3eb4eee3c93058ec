"""What a run means on the data that is there: its stream, its images, its identity."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from retune.data.dataset import Dataset, IntArray
from retune.errors import PluginError, UserError
from retune.plugins import blamed
from retune.progress import Progress
from retune.runner.content import content_of
from retune.runner.guard import stdout_to_stderr
from retune.runner.resolve import Parts, resolve
from retune.runner.shared import Shared, key_of
from retune.runner.spec import Spec
from retune.runner.transfer import Arranged, Taught, arrange
from retune.settings import values_of
from retune.streams.contract import breaches
from retune.streams.stream import Scenario, Stream

NAMES: Final = {"train": "training", "test": "test"}


@dataclass(frozen=True)
class Plan:
    """A run about to start: what a :class:`Spec` means on the data that is there."""

    spec: Spec
    parts: Parts
    stream: Stream
    content: list[bytes | None] | None
    id: str
    repeated: int = 0
    """How many test images are, byte for byte, training images too."""
    transfer: Arranged | None = None
    """What is measured beside classification."""
    breaches: tuple[str, ...] = ()
    """What of the contract the stream does not keep to."""

    def default_folder(self) -> Path:
        """``runs/SCENARIO/STRATEGY-DATA-seedS-ID`` below the working directory."""
        strategy = Path(self.parts.strategy.name).name.replace(":", "-")
        data = self.parts.source.name.replace(",", "+")
        name = f"{strategy}-{data}-seed{self.spec.seed}-{self.id}"
        return Path("runs") / self.parts.scenario.name / name


def plan(spec: Spec, progress: Progress | None = None, *, shared: Shared | None = None) -> Plan:
    """Resolve names, read the table, cut the stream; nothing is encoded or written.

    Args:
        spec: What to run.
        progress: Called with a stage, what is done of it and what there is to do.
        shared: What earlier runs of this process have left to be used again.

    Raises:
        UserError: If the input is at fault.
    """
    shared = shared or Shared()
    parts = resolve(spec, shared)
    if spec.device != "auto":
        _ = parts.backbone.torch_device
    # Read first: a model that is not there is told before gigabytes of images are looked at.
    chosen = parts.identity()
    key = (key_of(parts.source), parts.scenario.name, repr(values_of(parts.scenario)), spec.seed)
    found = shared.kept(
        "cut",
        (*key, type(parts.scenario), parts.backbone.precomputed, spec.skip_bad_images),
        lambda: stream_of(parts, spec, shared.dataset(parts.source), progress),
    )
    parts.bank.require(found.stream.labels)
    identity = {
        **chosen,
        "dataset": found.dataset,
        "stream": found.fingerprint,
        "images": found.images,
        "seed": spec.seed,
        "device": spec.device,
        "precision": spec.precision,
        "skip_bad_images": spec.skip_bad_images,
        "replicates": spec.replicates,
    }
    transfer = None
    if parts.transfer is not None:
        stream = found.stream
        content = dict(zip(stream.rows.tolist(), found.content or (), strict=False))
        keys = {key for key in map(content.get, stream.joint().rows.tolist()) if key is not None}
        transfer = arrange(
            parts.transfer,
            shared.dataset(parts.transfer.source),
            parts.backbone,
            taught=Taught(stream, parts.source.origins, keys),
            skip_bad_images=spec.skip_bad_images,
            progress=progress,
        )
        identity["transfer"] = {**chosen["transfer"], **transfer.identity()}
    return Plan(
        spec, parts, found.stream, found.content, run_id(identity), found.repeated, transfer, found.breaches
    )


def run_id(identity: Mapping[str, Any]) -> str:
    """Twelve hexadecimal digits of whatever determines a result."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True, default=str).encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Cut:
    """A stream, and what the identity of a run holds of it.

    Args:
        stream: The stream.
        dataset: Fingerprint of the data set.
        fingerprint: Of the stream.
        content: Digests of the images it needs; None where no picture is looked at.
        images: Digest of these.
        repeated: How many test images are training images, too.
        breaches: What of the contract the stream does not keep to; looked for where its scenario is a plugin.
    """

    stream: Stream
    dataset: str
    fingerprint: str
    content: list[bytes | None] | None
    images: str
    repeated: int
    breaches: tuple[str, ...] = ()


def stream_of(parts: Parts, spec: Spec, dataset: Dataset, progress: Progress | None) -> Cut:
    """Cut a data set, and look at the content of the images that are needed of it."""
    stream = cut(parts.scenario, dataset, spec.seed)
    rows = stream.rows
    content = None if parts.backbone.precomputed else content_of(stream.dataset, rows, progress)
    if content is not None and not spec.skip_bad_images:
        stream.dataset.require_images(rows, content)
    images = hashlib.sha256(b"".join(key or b"\0" for key in content or ())).hexdigest()
    repeated = _repeated(content, len(stream.test))
    broken = []
    if parts.scenario_code:  # Ours are held to it by tests.
        broken = breaches(stream, parts.scenario, dataset)
        if cut(parts.scenario, dataset, spec.seed).fingerprint != stream.fingerprint:
            broken.append("same-seed-same-stream: two streams of one seed differ, so no run can be repeated")
    return Cut(stream, dataset.fingerprint, stream.fingerprint, content, images, repeated, tuple(broken))


def cut(scenario: Scenario, dataset: Dataset, seed: int) -> Stream:
    """A stream that a run can learn from and be judged on, whether cut from all images or from those that can be read.

    Raises:
        UserError: If there are no training or no test images, an experience is empty, no label can be learnt, or the
            scenario cannot cut the data set.
    """
    where = f"data set {dataset.name}"
    for split in ("train", "test"):
        if not len(dataset.rows(split)):
            raise UserError(f"has no {split} images", where=where, fix="check its splits")
    if not (dataset.targets[dataset.rows("train")] == 1).any():
        raise UserError("has no positive training label", where=where)
    with stdout_to_stderr(), blamed(scenario, "scenario", "stream"):
        stream = scenario.stream(dataset, seed)
    if not isinstance(stream, Stream):
        raise PluginError(
            f"stream gave {type(stream).__name__}, not a Stream", where=f"scenario {scenario.name}"
        )
    with blamed(scenario, "scenario", "stream, which gave what is no stream"):
        sizes = {experience.step: len(experience) for experience in stream.taught}
        some, learnt = len(stream.test), bool(stream.first.any())
    if not some:
        raise UserError("the stream has no test images", where=f"scenario {scenario.name}")
    for step, size in sizes.items():
        if not size:
            raise UserError(f"experience {step} holds no image", where=f"scenario {scenario.name}")
    if not learnt:
        raise UserError(
            "no label has both a positive and a negative training image, so none can be learnt",
            where=where,
            fix="check its labels: what is known to be absent must say so",
        )
    return stream


def cut_again(scenario: Scenario, stream: Stream, lost: IntArray, seed: int) -> Stream:
    """The stream of the images that can be read, under the same conditions as before; says which labels that spoils.

    Args:
        scenario: What cut the stream.
        stream: Of all images.
        lost: Rows of its data set that cannot be read.
        seed: As before.

    Raises:
        UserError: If nothing can be learnt from, or be judged on, what is left.
    """
    whole = stream.dataset
    needed = {"train": stream.joint().rows, "test": stream.test}
    for split, rows in needed.items():
        if np.isin(rows, lost).all():
            raise UserError(
                f"none of the {len(rows):,} {NAMES[split]} images can be read",
                where=f"data set {whole.name}",
                fix=f"see why with: retune data check {whole.name}; or give features of them",
            )
    left = whole.take(
        np.setdiff1d(np.arange(len(whole)), lost),
        dropped={"unreadable images": len(lost)},
    )
    try:
        again = cut(scenario, left, seed)
    except UserError as error:
        what = f"{error.what} once {len(lost):,} images that cannot be read are left out"
        raise UserError(what, where=error.where, fix=error.fix) from error
    spoilt = [
        f"No {kind} {NAMES[split]} image that can be read is left of: {', '.join(names)}"
        for split, rows in needed.items()
        for value, kind in ((1, "positive"), (0, "negative"))
        if (names := _spoilt(whole, rows, lost, value))
    ]
    return replace(again, dataset=replace(again.dataset, notes=(*again.dataset.notes, *spoilt)))


def _spoilt(dataset: Dataset, rows: IntArray, lost: IntArray, value: float) -> list[str]:
    """Labels of which some of these rows have this value, and all of those are lost."""
    had, has = ((dataset.targets[of] == value).any(axis=0) for of in (rows, np.setdiff1d(rows, lost)))
    return [dataset.labels[c] for c in np.flatnonzero(had & ~has)]


def _repeated(content: list[bytes | None] | None, n_test: int) -> int:
    """How many of the test images, which come last, have the content of a training image."""
    if content is None:
        return 0
    seen = {key for key in content[: len(content) - n_test] if key is not None}
    return sum(key in seen for key in content[len(content) - n_test :])

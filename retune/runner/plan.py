"""What a run means on the data that is there: its stream, its images, its identity."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from retune.data.dataset import Dataset, IntArray
from retune.errors import UserError
from retune.progress import Progress
from retune.runner.guard import stdout_to_stderr
from retune.runner.resolve import Parts, resolve
from retune.runner.shared import Shared, key_of
from retune.runner.spec import Spec
from retune.settings import values_of
from retune.streams.stream import Stream

BLOCK: Final = 4096
"""Images whose digests are looked up at a time."""


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
    cut = shared.kept(
        "cut",
        (*key, type(parts.scenario), parts.backbone.precomputed, spec.skip_bad_images),
        lambda: _cut(parts, spec, shared.dataset(parts.source), progress),
    )
    parts.bank.require(cut.stream.labels)
    identity = {
        **chosen,
        "dataset": cut.dataset,
        "stream": cut.fingerprint,
        "images": cut.images,
        "seed": spec.seed,
        "device": spec.device,
        "precision": spec.precision,
        "skip_bad_images": spec.skip_bad_images,
        "replicates": spec.replicates,
    }
    # Twelve hexadecimal digits of whatever determines a result.
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True, default=str).encode()).hexdigest()
    return Plan(spec, parts, cut.stream, cut.content, digest[:12], cut.repeated)


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
    """

    stream: Stream
    dataset: str
    fingerprint: str
    content: list[bytes | None] | None
    images: str
    repeated: int


def _cut(parts: Parts, spec: Spec, dataset: Dataset, progress: Progress | None) -> Cut:
    _require_usable(dataset)
    with stdout_to_stderr():
        stream = parts.scenario.stream(dataset, spec.seed)
    rows = stream.rows
    content = None if parts.backbone.precomputed else _content(stream.dataset, rows, progress)
    if content is not None and not spec.skip_bad_images:
        stream.dataset.require_images(rows, content)
    images = hashlib.sha256(b"".join(key or b"\0" for key in content or ())).hexdigest()
    repeated = _repeated(content, len(stream.test))
    return Cut(stream, dataset.fingerprint, stream.fingerprint, content, images, repeated)


def _repeated(content: list[bytes | None] | None, n_test: int) -> int:
    """How many of the test images, which come last, have the content of a training image."""
    if content is None:
        return 0
    seen = {key for key in content[: len(content) - n_test] if key is not None}
    return sum(key in seen for key in content[len(content) - n_test :])


def _content(dataset: Dataset, rows: IntArray, progress: Progress | None) -> list[bytes | None]:
    """Digests of the images' content, told block by block: many gigabytes may have to be read."""
    found: list[bytes | None] = []
    for start in range(0, len(rows), BLOCK):
        found += dataset.images.keys(rows[start : start + BLOCK])
        if progress:
            progress("reading images", len(found), len(rows))
    return found


def _require_usable(dataset: Dataset) -> None:
    for split in ("train", "test"):
        if not len(dataset.rows(split)):
            raise UserError(
                f"has no {split} images", where=f"data set {dataset.name}", fix="check its splits"
            )
    if not (dataset.targets[dataset.rows("train")] == 1).any():
        raise UserError("has no positive training label", where=f"data set {dataset.name}")

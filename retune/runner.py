"""One run: a stream, a strategy, a result. Re-issuing it continues it, to the same bit."""

from __future__ import annotations

import hashlib
import json
import shlex
import sys
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

from filelock import FileLock, Timeout

from retune.data.dataset import Dataset, IntArray
from retune.errors import RunConflict, StrategyError, UserError
from retune.files import make_folder, write_whole
from retune.progress import Progress
from retune.results.result import RESULT_FILE, RUN_FILE, Result
from retune.run_line import run_words
from retune.settings import values_of
from retune.shelf import Shelf, key_of
from retune.spec import DEFAULTS, Parts, Spec, resolve, run_id
from retune.streams.stream import Stream
from retune.supervised import aside

CHECKPOINT_FILE: Final = "checkpoint.safetensors"
BLOCK: Final = 4096
"""Images whose digests are looked up at a time."""
PACKAGES: Final = ("retune", "torch", "numpy", "scikit-learn", "open_clip_torch", "transformers")


class RunBusy(RunConflict):
    """Another process is at work on the run."""


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

    @property
    def rows(self) -> IntArray:
        """Rows of the data set that are encoded: every training image of the stream, then the test images."""
        return self.stream.rows

    def default_folder(self) -> Path:
        """``runs/SCENARIO/STRATEGY-DATA-seedS-ID`` below the working directory."""
        strategy = Path(self.parts.strategy.name).name.replace(":", "-")
        data = self.parts.source.name.replace(",", "+")
        name = f"{strategy}-{data}-seed{self.spec.seed}-{self.id}"
        return Path("runs") / self.parts.scenario.name / name


@dataclass(frozen=True)
class Run:
    """A run with its folder claimed: nothing has been encoded or learnt yet, or all of it has."""

    plan: Plan
    folder: Path

    def execute(
        self, *, command: str | None = None, progress: Progress | None = None, wait: float = 0
    ) -> Result:
        """Do what is left to do.

        Args:
            command: How to say it on a command line, for the record.
            progress: Called with a stage, what is done of it and what there is to do.
            wait: Seconds to wait for another process that is at it.

        Raises:
            RunConflict: If another process is at it.
            StorageError: If the disk is full.
        """
        # Looked at before the lock: a finished run may lie where nothing can be written.
        if (self.folder / RESULT_FILE).exists():
            return Result.read(self.folder)
        lock = FileLock(self.folder / ".lock")
        try:
            lock.acquire(timeout=wait)
        except Timeout:
            raise RunBusy("another process is at work on this run", where=str(self.folder)) from None
        try:
            # The other process may have finished it meanwhile.
            if (self.folder / RESULT_FILE).exists():
                return Result.read(self.folder)
            # Torch is imported only when there is work to do.
            from retune.learning import learn
            from retune.record import record

            tell = progress or (lambda stage, done, total: None)
            outcome = learn(self.plan, self.folder, tell)
            return record(self.plan, outcome, self.folder, command or _command(self.plan), tell)
        except (UserError, StrategyError):
            self._withdraw()
            raise
        finally:
            lock.release()
            Path(lock.lock_file).unlink(missing_ok=True)

    def _withdraw(self) -> None:
        """Leave no trace of a run that its input or its strategy made impossible before anything was learnt."""
        if not (self.folder / CHECKPOINT_FILE).exists():
            (self.folder / RUN_FILE).unlink(missing_ok=True)
            (self.folder / ".lock").unlink(missing_ok=True)
            with suppress(OSError):
                self.folder.rmdir()


def run(
    spec: Spec | None = None,
    *,
    out: str | Path | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> Result:
    """Run one strategy over one stream and write its result.

    A finished run is read, not repeated; an interrupted one continues after its last experience.

    Args:
        spec: What to run; or give its fields as keyword arguments.
        out: Folder of the run; made under ``runs/`` where left out.
        progress: Called with a stage, what is done of it and what there is to do.
        **options: Fields of :class:`retune.spec.Spec`.

    Returns:
        The result, as written to ``result.json`` beside ``scores.safetensors``.

    Raises:
        UserError: If the input is at fault.
        RunConflict: If ``out`` holds another run.
        StorageError: If the disk is full.
    """
    spec = replace(spec, **options) if spec else Spec(**options)
    return prepare(spec, out, progress=progress).execute(progress=progress)


def prepare(
    spec: Spec,
    out: str | Path | None = None,
    *,
    progress: Progress | None = None,
    shelf: Shelf | None = None,
) -> Run:
    """Check everything that can be checked early, and make or find the run's folder.

    Args:
        spec: What to run.
        out: Folder of the run; made under ``runs/`` where left out.
        progress: Called with a stage, what is done of it and what there is to do.
        shelf: What earlier runs of this process have left to be used again.

    Raises:
        UserError: If the input is at fault.
        RunConflict: If ``out`` holds another run.
    """
    planned = plan(spec, progress, shelf=shelf)
    folder = Path(out) if out else planned.default_folder()
    claim(folder, planned)
    return Run(planned, folder)


def plan(spec: Spec, progress: Progress | None = None, *, shelf: Shelf | None = None) -> Plan:
    """Resolve names, read the table, cut the stream; nothing is encoded or written.

    Args:
        spec: What to run.
        progress: Called with a stage, what is done of it and what there is to do.
        shelf: What earlier runs of this process have left to be used again.

    Raises:
        UserError: If the input is at fault.
    """
    shelf = shelf or Shelf()
    parts = resolve(spec, backbone=shelf.backbone, bank=shelf.bank)
    if spec.device != "auto":
        _ = parts.backbone.torch_device
    # Read first: a model that is not there is told before gigabytes of images are looked at.
    chosen = parts.identity()
    key = (key_of(parts.source), parts.scenario.name, repr(values_of(parts.scenario)), spec.seed)
    cut = shelf.kept(
        "cut",
        (*key, type(parts.scenario), parts.backbone.precomputed, spec.skip_bad_images),
        lambda: _cut(parts, spec, shelf.dataset(parts.source), progress),
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
    return Plan(spec, parts, cut.stream, cut.content, run_id(identity), cut.repeated)


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
    with aside():
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


def claim(folder: Path, planned: Plan) -> None:
    """Make a run's folder, or see that it is this run's.

    Raises:
        RunConflict: If it holds another run.
        UserError: If it cannot be written.
    """
    marker = folder / RUN_FILE
    if marker.exists():
        try:
            found = json.loads(marker.read_text())["id"]
        except (OSError, ValueError, KeyError, TypeError):
            raise RunConflict(
                f"{RUN_FILE} cannot be read", where=str(folder), fix="choose another --out"
            ) from None
        if found != planned.id:
            raise RunConflict(
                f"holds a different run ({found}, this one is {planned.id})",
                where=str(folder),
                fix="choose another --out, or remove that folder",
            )
        return
    if (folder / RESULT_FILE).exists():
        raise RunConflict("holds a result of another origin", where=str(folder), fix="choose another --out")
    make_folder(folder)
    write_whole(
        marker, (json.dumps({"id": planned.id, **planned.parts.identity()}, indent=1) + "\n").encode()
    )


def _require_usable(dataset: Dataset) -> None:
    for split in ("train", "test"):
        if not len(dataset.rows(split)):
            raise UserError(
                f"has no {split} images", where=f"data set {dataset.name}", fix="check its splits"
            )
    if not (dataset.targets[dataset.rows("train")] == 1).any():
        raise UserError("has no positive training label", where=f"data set {dataset.name}")


def _command(plan: Plan) -> str:
    """The command that does the run, without this machine's folders and limits."""
    spec, source = plan.spec, plan.parts.source
    usual = source.name == (plan.parts.scenario.data or DEFAULTS["data"])
    roots = {name: "DIR" for name, root in source.roots.items() if root is not None}
    told = replace(
        spec,
        scenario=spec.scenario or plan.parts.scenario.name,
        data=None if usual else spec.data or source.name,
        root=roots if len(source.readers) > 1 else next(iter(roots.values()), None),
        time_limit=None,
    )
    return shlex.join(run_words(told))


def versions() -> dict[str, str]:
    """Versions of Python and the packages that numbers depend on."""
    found = {"python": ".".join(map(str, sys.version_info[:3]))}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found

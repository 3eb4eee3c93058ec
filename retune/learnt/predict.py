"""Scores of pictures by an exported model: those of its run, to the bit, on the same machine and the same pictures."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from retune.backbones.base import Backbone
from retune.backbones.precision import repeatable, threads
from retune.data.dataset import Dataset, IntArray
from retune.data.dicom_subject import not_wanted
from retune.data.images import FileImages, size_of
from retune.errors import BadImage, BadSetting, StrategyError, UserError
from retune.files import write_whole
from retune.learnt.files import listed
from retune.learnt.here import backbone_of, strategy_of
from retune.learnt.model import USE, Exported, Taken
from retune.methods.strategy import Strategy
from retune.progress import Progress, silent
from retune.results.text import inert
from retune.runner.content import content_of
from retune.runner.guard import stdout_to_stderr
from retune.runner.images import lend
from retune.runner.record import versions
from retune.runner.resolve import require_capabilities
from retune.runner.session import begin, score

HEAD: Final = 2**20
"""Bytes that the first line of a file of scores has at most."""
SMALLEST: Final = 32
"""Pixels that each side of a picture must have."""


@dataclass(frozen=True)
class Predicted:
    """What an exported model says of some pictures.

    Args:
        about: The model.
        images: The files asked for, as they were named.
        scored: Which could be scored, bool (N,).
        scores: Of these, (n, C): higher means more likely present.
        refused: Why each other one was not, by its name.
        notes: Why scores may differ from those of the run in their last bits.
    """

    about: Exported
    images: tuple[str, ...]
    scored: npt.NDArray[np.bool_]
    scores: npt.NDArray[Any]
    refused: dict[str, str]
    notes: tuple[str, ...]

    @property
    def calls(self) -> npt.NDArray[np.float64]:
        """1 where a score reaches its label's threshold, 0 where not, NaN where the label has none; (n, C)."""
        limits = np.array(self.about.thresholds, dtype=np.float64)
        return np.where(np.isnan(limits), np.nan, self.scores.astype(np.float64) >= limits)

    def to_csv(self) -> str:
        """A line for each image: its name, a score and a call for each label, why it was refused, the use allowed."""
        file = io.StringIO()
        writer = csv.writer(file, lineterminator="\n")
        labels = [inert(label) for label in self.about.labels]
        writer.writerow(["image", *labels, *(f"{label} called" for label in labels), "refused", "use"])
        # As text: the shortest decimals that are read back as the same bits.
        rows = zip(self.scores.astype(str).tolist(), self.calls.tolist(), strict=True)
        empty = [""] * 2 * len(labels)
        for image, scored in zip(self.images, self.scored.tolist(), strict=True):
            if scored:
                scores, calls = next(rows)
                told = [*scores, *("" if call != call else int(call) for call in calls)]
            else:
                told = empty
            writer.writerow([inert(image), *told, inert(self.refused.get(image, "")), USE])
        return file.getvalue()


def predict(
    model: str | Path,
    images: str | Path | Sequence[str | Path],
    *,
    out: str | Path | None = None,
    strategy: str | type[Strategy] | None = None,
    backbone: str | type[Backbone] | Backbone | None = None,
    device: str = "auto",
    force: bool = False,
    progress: Progress = silent,
) -> Predicted:
    """Score pictures by an exported model.

    Args:
        model: Folder that :func:`retune.export` wrote.
        images: PNG, JPEG or DICOM files, folders of such, or ``.txt`` files that name such.
        out: A ``.csv`` file that gets the scores; nothing is written where left out.
        strategy: The Python file or the class of the strategy, where it is one's own. Nothing in the folder is
            ever imported.
        backbone: Where the backbone is here, if its name does not tell; it must be the same.
        device: Where to encode and score.
        force: Replace a file that holds no scores.
        progress: Told what is done.

    Raises:
        UserError: If the folder, the strategy or the backbone is not what it must be, or no picture can be scored.
        StorageError: If the disk is full.
    """
    target = _target(out, force)
    taken = Taken.read(model)
    given = [images] if isinstance(images, str | Path) else images
    found = listed([Path(image) for image in given], target)
    with stdout_to_stderr():
        encoder = backbone_of(taken.about.backbone, str(taken.folder), backbone, device)
        method = strategy_of(taken.about.strategy, str(taken.folder), strategy)
        require_capabilities(method, method.name, encoder)
    taken.bank.require(taken.about.labels)
    predicted = _score(taken, method, encoder, found, progress)
    if target is not None:
        write_whole(target, predicted.to_csv().encode())
    return predicted


def _target(out: str | Path | None, force: bool) -> Path | None:
    if out is None:
        return None
    path = Path(out)
    if path.is_dir():
        raise BadSetting(f"'{out}' is a folder", where="--out", fix="name a file in it, ending in .csv")
    if path.suffix != ".csv":
        # A picture named by a slip of the pen is not to be lost.
        raise BadSetting(f"'{out}' is not the name of a .csv file", where="--out", fix="write --out FILE.csv")
    if not path.parent.is_dir():
        raise BadSetting(f"there is no folder '{path.parent}'", where="--out")
    if path.exists() and not force and not _holds_scores(path):
        raise UserError(
            "is there already and holds something else",
            where=str(path),
            fix="choose another --out, or replace it with --force",
        )
    return path


def _holds_scores(path: Path) -> bool:
    """Whether a file is one that :meth:`Predicted.to_csv` gave."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        head = file.readline(HEAD)
    return head.startswith(b"image,") and head.endswith(b",refused,use\n")


def _score(
    taken: Taken, method: Strategy, encoder: Backbone, found: Sequence[Path], progress: Progress
) -> Predicted:
    about, names = taken.about, [str(path) for path in found]
    labels = tuple(about.labels)
    refused = _unwanted(found, about)
    asked: IntArray = np.array([k for k, name in enumerate(names) if name not in refused], dtype=np.int64)
    pictures = _table(names, labels)
    with repeatable(encoder.torch_device):
        lent = lend(
            encoder, pictures, asked, method.requires(), content_of(pictures, asked, progress),
            skip_bad_images=True, progress=progress,
        )  # fmt: skip
        rows = asked[lent.place[asked] >= 0]
        refused |= _unread(pictures, asked[lent.place[asked] < 0])
        if not len(rows):
            name, why = next(iter(refused.items()))
            raise UserError(
                f"none of {len(names):,} files can be scored, the first because {why}", where=name,
                fix="give chest radiographs as PNG, JPEG or DICOM",
            )  # fmt: skip
        with threads(about.run.threads or 1), _fitting(taken):
            learner = begin(method, encoder, taken.bank, labels, seed=about.run.seed, device=lent.device)
            learner.resume(taken.state)
            scores = score(learner, lent, rows, labels, about.run.steps)
    return Predicted(
        about,
        tuple(names),
        np.isin(np.arange(len(names)), rows),
        scores.numpy(),
        refused,
        _notes(about, encoder),
    )


def _unwanted(found: Sequence[Path], about: Exported) -> dict[str, str]:
    views = about.data.views or ["frontal"]
    return {str(path): why for path in found if (why := _no_picture(path) or not_wanted(path, views))}


def _no_picture(path: Path) -> str | None:
    """Why nothing can be seen in a file, before it is decoded; None where it does not tell or is not there."""
    if not path.is_file():
        # A pipe that nobody writes to would hold up all others.
        return "it is not a file but a folder, a pipe or a device" if path.exists() else None
    size = size_of(path)
    if size is None or min(size) >= SMALLEST:
        return None
    return f"it has {size[1]} x {size[0]} pixels, too few for a radiograph"


def _unread(pictures: Dataset, rows: IntArray) -> dict[str, str]:
    """Why pictures cannot be read, by name."""
    why = {}
    for row, picture in zip(rows.tolist(), pictures.images.load(rows), strict=True):
        name = pictures.images.describe(row)
        why[name] = f"it {picture.what}" if isinstance(picture, BadImage) else "it could not be read"
    return why


def _table(names: Sequence[str], labels: tuple[str, ...]) -> Dataset:
    """Pictures of which nothing is known but where they are."""
    files = np.array(names)
    return Dataset(
        name="images",
        labels=labels,
        image_id=files,
        patient_id=np.array([f"{k}" for k in range(len(names))]),
        split=np.full(len(names), "test"),
        targets=np.full((len(names), len(labels)), np.nan, dtype=np.float32),
        images=FileImages(files),
    )


@contextmanager
def _fitting(taken: Taken) -> Iterator[None]:
    """Whatever a strategy cannot do with a state is the folder's fault."""
    try:
        yield
    except StrategyError as error:
        raise UserError(
            f"its weights do not fit: {error}", where=str(taken.folder), fix="export it again"
        ) from None


def _notes(about: Exported, encoder: Backbone) -> tuple[str, ...]:
    mine, told = versions(), about.run.versions
    other = [f"{name} {mine[name]}, the run {told[name]}" for name in told if mine.get(name) != told[name]]
    device = encoder.torch_device.type
    return (
        *(
            [f"scored on {device}, the run on {about.backbone.device}"]
            if device != about.backbone.device
            else []
        ),
        *([f"other versions: {'; '.join(other)}"] if other else []),
    )

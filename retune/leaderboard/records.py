"""What verifying an entry found: its tier, and what a reader should know before believing its numbers."""

from __future__ import annotations

from itertools import combinations, compress
from pathlib import Path
from typing import Annotated, Final, Literal

import numpy as np
import numpy.typing as npt
from pydantic import ConfigDict, Field, ValidationError

from retune.errors import UserError, mistake
from retune.files import make_folder, write_whole
from retune.leaderboard.entry import ENTRY_FILE, Entry
from retune.leaderboard.fields import Line, Part, Seconds, Sha256, Share, in_ascii
from retune.leaderboard.untrusted import parse, plain_content
from retune.sealed import Untrusted, seal_json, unsealed

SCHEMA: Final = "retune.verified/1"
MOST: Final = 2**20
"""Bytes of a record."""
AGAIN: Final = "remove it, and verify again"
ENOUGH: Final = 3
"""Seeds below which a deviation says little."""

Tier = Literal["self-reported", "recomputed", "re-run"]
TIERS: Final[tuple[Tier, ...]] = ("self-reported", "recomputed", "re-run")
"""The more is known, the later it stands."""


class Record(Part):
    """What a verifier keeps of one entry, bound to the bytes that were verified.

    Attributes:
        entry: SHA-256 of the ``entry.json``, which holds that of the scores.
        tier: How far it was checked.
        difference: The largest difference between a published number and the recomputed one.
        rerun_difference: The largest between an AUC, or a Dice, of the entry and that of the repeated run.
        remarks: What a reader should know.
        replicates: Final AUC on every resample of the test patients, mean over seeds: what is needed to compare
            entries of one track without its data.
        fault: Why its numbers do not hold, found by the check that ``tier`` names; None where they do.
    """

    model_config = ConfigDict(title=SCHEMA)

    schema_name: Literal["retune.verified/1"] = Field(default=SCHEMA, alias="schema")
    entry: Sha256
    tier: Tier
    difference: Seconds | None
    rerun_difference: Seconds | None
    remarks: Annotated[list[Line], Field(max_length=50)]
    replicates: Annotated[list[Share], Field(max_length=10_000)]
    fault: Line | None = None

    def write(self, file: Path) -> None:
        """Write it whole.

        Raises:
            UserError: If its folder is a link: submissions come with what else their sender put beside them.
        """
        for folder in (file.parent.parent, file.parent):
            if folder.is_symlink():
                raise UserError("is a link; records are written into plain folders", where=str(folder))
        make_folder(file.parent)
        content = self.model_dump(by_alias=True, exclude=None if self.fault else {"fault"})
        write_whole(file, seal_json(content, indent=None))

    @classmethod
    def read(cls, file: Path, digest: str) -> Record | None:
        """What was found of an entry; None where nothing was.

        Args:
            file: The record's.
            digest: SHA-256 of the ``entry.json`` that stands there now.

        Raises:
            UserError: If it is no record, not as it was written, or of another ``entry.json``.
        """
        content = plain_content(file, str(file), most=MOST)
        if content is None:
            return None
        document = unsealed(parse(content, str(file), most=MOST), file, fix=AGAIN)
        try:
            found = cls.model_validate(document)
        except ValidationError as error:
            raise UserError(
                in_ascii(f"is not what verifying writes: {mistake(error)}"), where=str(file), fix=AGAIN
            ) from None
        if found.entry != digest:
            raise Untrusted(
                f"is of another {ENTRY_FILE} than the one that stands there now",
                where=str(file),
                fix=f"put that one back, or, where it was to change, {AGAIN}",
            )
        return found


def suspicions(entry: Entry, scores: npt.NDArray[np.float32] | None = None) -> list[str]:
    """What a reader should know before believing an entry's numbers, a line each.

    Args:
        entry: The entry.
        scores: ``(R, T+1, N, C)``, where the entry was recomputed.
    """
    found = []
    many = len(entry.runs)
    if many < ENOUGH:
        found.append(few_seeds(many))
    orders = {tuple(run.first) for run in entry.runs}
    if many > 1 and len(orders) == 1 and max(orders.pop()) > 1:
        found.append("one label order: every seed learns the labels in the same order")
    backbone = entry.backbone
    if backbone.contaminated != "no":
        may = "was" if backbone.contaminated == "yes" else "may have been"
        found.append(f"contaminated: {backbone.name} {may} pre-trained on this data")
    if entry.data.repeated_images:
        found.append(f"of the test images, {entry.data.repeated_images:,} are training images too")
    if entry.data.unreadable_images:
        found.append(f"images that could not be read and were left out: {entry.data.unreadable_images:,}")
    if backbone.looked_up:
        found.append("features were looked up by image id; no picture was looked at")
    run = entry.runs[0]
    for what, marks in (
        ("labels without an AUC", [final is None for final in run.auc_matrix[-1]]),
        (
            "labels without a positive or without a negative training image",
            [first == 0 for first in run.first],
        ),
    ):
        names = list(compress(entry.labels, marks))
        if names:
            found.append(f"{what}: {', '.join(names[:5])}" + (" ..." if len(names) > 5 else ""))
    if scores is not None and not entry.strategy.sees_everything:
        pairs = combinations(zip(entry.runs, scores, strict=True), 2)
        same = next(((a.seed, b.seed) for (a, x), (b, y) in pairs if np.array_equal(x, y)), None)
        if same:
            found.append(f"seeds {same[0]} and {same[1]} have the same scores: the seed decides nothing")
    return found


def few_seeds(many: int) -> str:
    """What is to be said of fewer than :data:`ENOUGH` seeds."""
    return f"{many} {'seed' if many == 1 else 'seeds'} only; {ENOUGH} or more tell how results vary"

"""The document that a suite keeps beside its runs: what was asked for, and each run with its name and state."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from pydantic import BaseModel, Field, ValidationError

from retune.errors import UserError, mistake
from retune.files import make_folder, write_whole
from retune.suite.cells import Finished

if TYPE_CHECKING:
    from retune.suite.execute import Report
    from retune.suite.grid import Suite
    from retune.suite.plans import Plans

SUITE_FILE: Final = "suite.json"
SCHEMA: Final = "retune.suite-plan/1"


def document(suite: Suite, plans: Plans, out: Path, report: Report | None = None) -> dict[str, Any]:
    """The expanded suite as JSON: every run with its folder and its state.

    Args:
        suite: What the user wrote.
        plans: What it came to.
        out: Folder of the suite.
        report: How it ended, where it has.
    """
    failed = {id(failure.cell): failure.reason for failure in (report.failures if report else plans.failures)}
    rows: list[dict[str, Any]] = []
    for job in plans.jobs:
        reason = failed.pop(id(job.cell), None)
        state = "done" if job.done else "left" if reason is None else "failed"
        row = {"id": job.id, "folder": job.folder.relative_to(out).as_posix(), "state": state}
        rows.append({**_cell(job.finished), **row, "reason": reason})
    for failure in report.failures if report else plans.failures:
        if id(failure.cell) in failed:
            blank = {"id": None, "folder": None, "state": "failed", "reason": failure.reason}
            rows.append({**_cell(failure.cell.finished(Path())), **blank})
    return {
        "schema": SCHEMA,
        "suite": suite.model_dump(mode="json", by_alias=True),
        "runs": rows,
        "skipped": [{"what": s.what, "reason": s.reason} for s in plans.skipped],
        "printed": dict(report.printed) if report else {},
    }


def _cell(cell: Finished) -> dict[str, Any]:
    names = ("strategy", "scenario", "data", "backbone", "order", "seed")
    return {name: getattr(cell, name) for name in names}


def write_suite(suite: Suite, plans: Plans, out: Path, report: Report | None = None) -> None:
    """Write ``suite.json`` whole; see :func:`document`."""
    make_folder(out)
    text = json.dumps(document(suite, plans, out, report), indent=1, ensure_ascii=False)
    write_whole(out / SUITE_FILE, (text + "\n").encode())


class _Run(BaseModel):
    id: str | None
    strategy: str
    scenario: str
    data: str
    backbone: str
    order: str
    seed: int
    folder: str | None


class _Document(BaseModel):
    schema_name: Literal["retune.suite-plan/1"] = Field(alias="schema")
    runs: list[_Run]


def read_names(folder: Path) -> dict[str, Finished]:
    """What a suite calls its runs, by the run's identity.

    Args:
        folder: Of the suite. Runs are given folders in it, whether they are finished or not.

    Raises:
        UserError: If its document is not there, or is none.
    """
    file = folder / SUITE_FILE
    try:
        found = _Document.model_validate_json(file.read_bytes())
    except OSError as error:
        raise UserError(f"cannot be read ({error.strerror})", where=str(file)) from error
    except ValidationError as error:
        raise UserError(f"is not a suite's: {mistake(error)}", where=str(file)) from error
    return {
        run.id: Finished(
            run.strategy, run.scenario, run.data, run.backbone, run.order, run.seed, folder / run.folder
        )
        for run in found.runs
        if run.id is not None and run.folder is not None
    }

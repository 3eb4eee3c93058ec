"""The document that a suite keeps beside its runs: what was asked for, and each run with its name and state."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from pydantic import BaseModel, Field, ValidationError

from retune.errors import UserError, mistake
from retune.files import make_folder, write_whole
from retune.sealed import open_json, seal_json
from retune.suite.runs import Finished, Named, Wanted

if TYPE_CHECKING:
    from retune.suite.execute import Outcome
    from retune.suite.plans import Plans
    from retune.suite.spec import Suite

SUITE_FILE: Final = "suite.json"
SCHEMA: Final = "retune.suite-plan/1"


def document(suite: Suite, plans: Plans, out: Path, outcome: Outcome | None = None) -> dict[str, Any]:
    """The expanded suite as JSON: every run with its folder and its state.

    Args:
        suite: What the user wrote.
        plans: What it came to.
        out: Folder of the suite.
        outcome: How it ended, where it has.
    """
    failures = outcome.failures if outcome else plans.failures
    reasons = {id(failure.run): failure.reason for failure in failures}
    rows = [
        {
            **_named(job.run),
            "id": job.id,
            "folder": job.folder.relative_to(out).as_posix(),
            "state": "done" if job.done else "failed" if id(job.run) in reasons else "left",
            "reason": reasons.pop(id(job.run), None),
        }
        for job in plans.jobs
    ]
    rows += [
        {**_named(failure.run), "id": None, "folder": None, "state": "failed", "reason": failure.reason}
        for failure in failures
        if id(failure.run) in reasons
    ]
    return {
        "schema": SCHEMA,
        "suite": suite.model_dump(mode="json", by_alias=True),
        "runs": rows,
        "skipped": [{"what": s.what, "reason": s.reason} for s in plans.skipped],
        "printed": outcome.printed if outcome else {},
    }


def _named(run: Wanted) -> dict[str, Any]:
    return {**{f.name: getattr(run, f.name) for f in fields(Named)}, "seed": run.spec.seed}


def write_suite(suite: Suite, plans: Plans, out: Path, outcome: Outcome | None = None) -> None:
    """Write ``suite.json`` whole; see :func:`document`."""
    make_folder(out)
    write_whole(out / SUITE_FILE, seal_json(document(suite, plans, out, outcome)))


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
        found = _Document.model_validate(open_json(file, fix="issue the suite's command again"))
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

"""One run: a stream, a strategy, a result. Re-issuing it continues it, to the same bit."""

from __future__ import annotations

import shlex
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from retune.errors import RunConflict, StrategyError, UnknownName, UserError
from retune.files import clear_partial, make_folder, write_whole
from retune.progress import Progress
from retune.results.own import with_own
from retune.results.result import CHECKPOINT_FILE, FILES, RESULT_FILE, RUN_FILE, SCORES_FILE, Result
from retune.results.scores import read_scores
from retune.runner.plan import Plan, plan
from retune.runner.shared import Shared
from retune.runner.spec import DEFAULTS, OPTIONS, Spec
from retune.sealed import open_json, seal_json


class RunBusy(RunConflict):
    """Another process is at work on the run."""


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
            return self._finished()
        lock = FileLock(self.folder / ".lock")
        try:
            lock.acquire(timeout=wait)
        except Timeout:
            raise RunBusy("another process is at work on this run", where=str(self.folder)) from None
        try:
            # The other process may have finished it meanwhile.
            if (self.folder / RESULT_FILE).exists():
                return self._finished()
            # Torch is imported only when there is work to do.
            from retune.runner.loop import learn
            from retune.runner.record import record

            clear_partial(self.folder)
            tell = progress or (lambda stage, done, total: None)
            outcome = learn(self.plan, self.folder, tell)
            return record(self.plan, outcome, self.folder, command or _command(self.plan), tell)
        except (UserError, StrategyError):
            self._withdraw()
            raise
        finally:
            lock.release()
            Path(lock.lock_file).unlink(missing_ok=True)

    def _finished(self) -> Result:
        """The result that is there, if it and its scores are this run's."""
        result = Result.read(self.folder)
        if (self.folder / SCORES_FILE).exists():
            read_scores(result, self.folder)
        return with_own(result, self.folder, self.plan.spec.metrics)

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
        **options: Fields of :class:`retune.runner.spec.Spec`. Where one names a strategy, scenario, data set, backbone,
            transfer or metric, a class may stand for it, or an instance, whose settings then count.

    Returns:
        The result, as written to ``result.json`` beside ``scores.safetensors``.

    Raises:
        UserError: If the input is at fault.
        RunConflict: If ``out`` holds another run.
        StorageError: If the disk is full.
    """
    if spec is not None and not isinstance(spec, Spec):
        raise UserError(
            f"takes a Spec or options by their names, not {type(spec).__name__}",
            where="retune.run",
            fix=f"write strategy={spec!r}" if isinstance(spec, str) else "name the option: strategy=...",
        )
    known = {field.name for field in fields(Spec)}
    for name in options:
        if name not in known:
            here = [field for field, option in OPTIONS.items() if option == name]
            known |= {"out", "progress"}
            raise UnknownName("option", name, known, where="retune.run", elsewhere=here)
    spec = replace(spec, **options) if spec else Spec(**options)
    return prepare(spec, out, progress=progress).execute(progress=progress)


def prepare(
    spec: Spec,
    out: str | Path | None = None,
    *,
    progress: Progress | None = None,
    shared: Shared | None = None,
) -> Run:
    """Check everything that can be checked early, and make or find the run's folder.

    Args:
        spec: What to run.
        out: Folder of the run; made under ``runs/`` where left out.
        progress: Called with a stage, what is done of it and what there is to do.
        shared: What earlier runs of this process have left to be used again.

    Raises:
        UserError: If the input is at fault.
        RunConflict: If ``out`` holds another run.
    """
    planned = plan(spec, progress, shared=shared)
    folder = Path(out) if out else planned.default_folder()
    claim(folder, planned)
    return Run(planned, folder)


def claim(folder: Path, planned: Plan) -> None:
    """Make a run's folder, or see that it is this run's.

    Raises:
        RunConflict: If it holds another run.
        UserError: If it cannot be written.
    """
    marker = folder / RUN_FILE
    if marker.exists():
        try:
            found = open_json(marker).get("id")
        except OSError:
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
    there = [name for name in FILES if (folder / name).exists()]
    if there and not _made(folder, planned):
        raise RunConflict(
            f"holds a {there[0]} of another origin", where=str(folder), fix="choose another --out"
        )
    make_folder(folder)
    write_whole(marker, seal_json({"id": planned.id, **planned.parts.identity()}))


def _made(folder: Path, planned: Plan) -> bool:
    """Whether the result in a folder without a mark is this run's."""
    with suppress(UserError):
        return Result.read(folder).run.id == planned.id
    return False


def _command(plan: Plan) -> str:
    """The command that does the run, without this machine's folders and limits."""
    spec, source = plan.spec, plan.parts.source
    preset = "/" in (spec.data or "")
    usual = source.name == (plan.parts.scenario.data or DEFAULTS["data"]) and not preset
    roots = {name: "DIR" for name, root in source.roots.items() if root is not None}
    told = replace(
        spec,
        scenario=spec.scenario or plan.parts.scenario.name,
        data=None if usual else spec.data or source.name,
        root=roots if len(source.readers) > 1 else next(iter(roots.values()), None),
        time_limit=None,
    )
    return shlex.join(told.words())

"""Checks, each on its own: one that fails, breaks something or never returns leaves the others alone."""

from __future__ import annotations

import contextlib
import io
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

from retune.check.world import restored
from retune.errors import UserError
from retune.parts import begin, takes
from retune.plugins import Kind, registry
from retune.progress import Progress
from retune.runner.guard import stdout_to_stderr
from retune.runner.time_limit import OutOfTime, limited
from retune.settings import make, values_of

T = TypeVar("T")
P = TypeVar("P")
S = TypeVar("S", bound="Plugin[Any]")
Outcome = Literal["passed", "failed", "not tried"]


class Failed(Exception):
    """What was checked is not so; the message says what is instead."""


def require(held: bool, reason: str) -> None:
    """Fail a check.

    Args:
        held: Whether what is demanded holds.
        reason: What is the case otherwise.

    Raises:
        Failed: If it does not.
    """
    if not held:
        raise Failed(reason)


def require_settings(make: Callable[[], object]) -> None:
    """See that a plugin can be made with its settings, as far as a user is to blame.

    Args:
        make: Makes it. What it raises itself is for a check to find.

    Raises:
        UserError: If a setting is unknown, or its value is wrong.
    """
    try:
        make()
    except UserError:
        raise
    except Exception:
        return


@dataclass(frozen=True)
class Plugin(Generic[P]):
    """A plugin to check.

    Args:
        cls: Its class.
        settings: Others than the default ones.
    """

    cls: type[P]
    settings: Mapping[str, Any]

    def made(self) -> P:
        """One with these settings."""
        return make(self.cls, self.settings, owner=self.cls.__name__)


@dataclass(frozen=True)
class Check(Generic[T]):
    """One demand.

    Args:
        run: Raises where what it is given does not keep to it; the first line of its docstring says what it
            demands, and its name what it is called.
    """

    run: Callable[[T], None]

    @property
    def name(self) -> str:
        """As in the list that is printed."""
        return self.run.__name__.replace("_", "-")

    @property
    def demand(self) -> str:
        """What must be so, in one line."""
        return (self.run.__doc__ or "").partition("\n")[0]


@dataclass(frozen=True)
class Finding:
    """What one check found.

    Args:
        name: Of the check.
        demand: What must be so.
        outcome: Whether it is.
        reason: Why not; empty where it passed.
        seconds: How long it took.
    """

    name: str
    demand: str
    outcome: Outcome
    reason: str
    seconds: float


@dataclass(frozen=True)
class ContractReport:
    """What all checks of one plugin found.

    Args:
        kind: ``strategy``, ``scenario``, ...
        name: What was checked.
        findings: In the order they were made.
        remarks: What a reader should know, but which is no demand.
    """

    kind: str
    name: str
    findings: tuple[Finding, ...]
    remarks: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether every demand is met."""
        return all(finding.outcome == "passed" for finding in self.findings)

    @property
    def failed(self) -> dict[str, str]:
        """Why what failed failed, by name of the check."""
        return {f.name: f.reason for f in self.findings if f.outcome == "failed"}

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "kind": self.kind,
            "name": self.name,
            "passed": self.passed,
            "checks": [vars(finding) for finding in self.findings],
            "remarks": list(self.remarks),
        }


def checked(
    kind: Kind,
    given: str | type[P] | P,
    subject: Callable[..., S],
    checks: Sequence[Check[S]],
    *,
    settings: Mapping[str, Any] | None,
    limit: float,
    progress: Progress | None = None,
) -> ContractReport:
    """Look a plugin up and make every check of its kind.

    Args:
        kind: Of the plugin.
        given: Its name, a Python file, its class, or an instance.
        subject: What is checked, of its class and ``settings``.
        checks: In this order; what fails the first is not tried further.
        settings: Others than the default ones, or those of the instance.
        limit: Seconds that a check may take.
        progress: Called with what is done, how much of it and how much there is to do.

    Raises:
        UserError: If there is no such plugin or setting, or it cannot be imported.
    """
    with stdout_to_stderr():
        asked, settings = taken(kind, given, settings)
        found = subject(registry(kind).load(asked) if isinstance(asked, str) else asked, settings=settings)
        require_settings(found.made)
        findings = run_checks(checks, found, limit=limit, progress=progress)
    return ContractReport(registry(kind).noun, asked if isinstance(asked, str) else asked.__name__, findings)


def taken(
    kind: Kind, given: str | type[P] | P, settings: Mapping[str, Any] | None
) -> tuple[str | type[P], dict[str, Any]]:
    """A name or a class, and the settings to check it with: an instance's, where others are not given.

    Raises:
        UserError: If it is of another kind.
    """
    more = dict(settings or {})
    if isinstance(given, str):
        return given, more
    cls: type[P] = given if isinstance(given, type) else type(given)
    if not registry(kind).has(cls):
        raise UserError(takes(kind, given), where="check", fix=begin(kind))
    return cls, more if isinstance(given, type) else {**values_of(given), **more}


def run_checks(
    checks: Sequence[Check[T]],
    subject: T,
    *,
    first: int = 1,
    limit: float,
    progress: Progress | None = None,
) -> tuple[Finding, ...]:
    """Make every check, whatever the others find.

    Args:
        checks: In this order.
        subject: What is checked.
        first: Of how many checks none may fail: what does not even pass these is not tried further.
        limit: Seconds a check may take. Once three times as much is spent, the rest is not tried.
        progress: Called with what is done, how much of it and how much there is to do.
    """
    findings: list[Finding] = []
    end = time.monotonic() + 3 * limit
    for check in checks:
        left = min(limit, end - time.monotonic())
        stopped = next((finding.name for finding in findings[:first] if finding.outcome == "failed"), "")
        if stopped:
            outcome: tuple[Outcome, str, float] = ("not tried", f"{stopped} failed", 0.0)
        elif left <= 0:
            outcome = ("not tried", "earlier checks used up the time", 0.0)
        else:
            outcome = made(check, subject, limit=left)
        findings.append(Finding(check.name, check.demand, *outcome))
        if progress:
            progress("checking", len(findings), len(checks))
    return tuple(findings)


def made(check: Check[T], subject: T, *, limit: float) -> tuple[Outcome, str, float]:
    """Make one check, in an empty folder of its own, and put back whatever global it changes.

    Args:
        check: What to check.
        subject: Whose.
        limit: Seconds it may take.

    Returns:
        Whether it passed, why not, and the seconds it took.
    """
    start = time.monotonic()
    reason = ""
    with (
        tempfile.TemporaryDirectory() as folder,
        contextlib.chdir(folder),
        restored(),
        contextlib.redirect_stdout(io.StringIO()),
    ):
        try:
            with limited(limit):
                check.run(subject)
        except Failed as failure:
            reason = str(failure)
        except OutOfTime:
            reason = f"did not return within {limit:.3g} seconds"
        except (Exception, SystemExit) as error:
            reason = f"raised {_told(error)}"
    return "failed" if reason else "passed", " ".join(reason.split()), time.monotonic() - start


def _told(error: BaseException) -> str:
    """An exception in one line, with the place in the plugin: the first file that is not retune's, or not a check's."""
    frames = traceback.extract_tb(error.__traceback__)
    here = Path(__file__).parent
    foreign = [f for f in frames if here.parent not in Path(f.filename).parents]
    place = next(iter([*foreign, *(f for f in frames if Path(f.filename).parent != here)]), None)
    where = f" ({Path(place.filename).name}, line {place.lineno})" if place else ""
    return f"{type(error).__name__}: {error}{where}"

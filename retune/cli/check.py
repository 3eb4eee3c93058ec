"""``retune check``: whether a plugin of any kind keeps the contract."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from retune.cli.options import AsJson

if TYPE_CHECKING:
    from retune.check import ContractReport

KINDS: Final = ("strategy", "scenario", "dataset", "backbone", "metric")
MARKS: Final = {
    "passed": ("passed", "green"),
    "failed": ("FAILED", "bold red"),
    "not tried": ("not tried", "dim"),
}


def check(
    what: Annotated[
        list[str],
        typer.Argument(
            metavar="[strategy|scenario|dataset|backbone|metric] NAME",
            help="A name from 'retune list' or a Python file; a strategy's where no kind is given.",
        ),
    ],
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="A setting; may be repeated.")
    ] = None,
    root: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of a data set's files.", show_default=False)
    ] = None,
    time_limit: Annotated[
        float | None,
        typer.Option(
            min=0.1,
            help="Seconds a check may take; three times as much for all together.",
            show_default="20; of a data set or a backbone 120",
        ),
    ] = None,
    json: AsJson = False,
) -> None:
    """See whether a plugin of your own keeps the contract: on small made-up data, and a reader on its files."""
    from retune import check as checks
    from retune.cli.console import bars, print_json
    from retune.errors import BadSetting
    from retune.settings import parse_assignments

    kind, name = _read(what)
    given = parse_assignments(set_ or [])
    prefix = "data" if kind == "dataset" else kind
    settings = {key.removeprefix(f"{prefix}."): value for key, value in given.items()}
    if root is not None and kind != "dataset":
        raise BadSetting(f"a {kind} has no files", where="--root", fix="leave it out")
    options: dict[str, Any] = {} if time_limit is None else {"limit": time_limit}
    if root is not None:
        options["root"] = root
    with bars() as progress:
        report = getattr(checks, f"check_{kind}")(name, settings=settings, progress=progress, **options)
    if json:
        print_json(report.to_json())
    else:
        print_report(report)
    if not report.passed:
        raise typer.Exit(1)


def print_report(report: ContractReport) -> None:
    """Every check that was made with what it demands, and where one failed, what is the case instead."""
    from collections import Counter

    from rich.text import Text

    from retune.cli.console import console, plain_table

    out = console()
    table = plain_table(heads=False)
    table.add_column("", no_wrap=True)
    table.add_column("", overflow="fold")
    made = [finding for finding in report.findings if finding.outcome != "not tried"]
    for finding in made:
        mark, style = MARKS[finding.outcome]
        told = Text(finding.name, "bold")
        told.append(f"\n{finding.demand}", "dim not bold")
        if finding.reason:
            told.append(f"\n{finding.reason}", "red not bold")
        table.add_row(Text(mark, style), told)
    mark, style = MARKS["not tried"]
    for reason, n in Counter(f.reason for f in report.findings if f not in made).items():
        table.add_row(Text(mark, style), Text(f"{n} {'check' if n == 1 else 'checks'}: {reason}", style))
    out.print(table)
    out.print()
    for remark in report.remarks:
        out.print(Text(remark))
    out.print(Text(_summary(report), "bold"))


def _summary(report: ContractReport) -> str:
    seconds = sum(finding.seconds for finding in report.findings)
    counts = {mark: sum(f.outcome == mark for f in report.findings) for mark in MARKS}
    named = f"{report.kind} {report.name}"
    if report.passed:
        return f"{named} keeps the contract: {counts['passed']} checks passed in {seconds:.0f} s"
    rest = f", {counts['not tried']} were not tried" if counts["not tried"] else ""
    return f"{named} breaks the contract: {counts['failed']} of {len(report.findings)} checks failed{rest}"


def _read(what: list[str]) -> tuple[str, str]:
    """The kind and the name."""
    from retune.errors import UnknownName, UserError

    kind, name = ("strategy", what[0]) if len(what) == 1 else (what[0], what[1])
    if len(what) > 2 or (len(what) == 1 and name in KINDS):
        meant = what[0] if what[0] in KINDS else "strategy"
        raise UserError(
            "give one name", where=f"retune check {' '.join(what)}", fix=f"retune check {meant} NAME"
        )
    if kind not in KINDS:
        raise UnknownName("kind", kind, KINDS, where="retune check")
    return kind, name

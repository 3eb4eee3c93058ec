"""``retune check``: whether a strategy or a scenario keeps the contract."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

import typer

from retune.cli.options import AsJson

if TYPE_CHECKING:
    from retune.check import ContractReport

KINDS: Final = ("strategy", "scenario")
MARKS: Final = {
    "passed": ("passed", "green"),
    "failed": ("FAILED", "bold red"),
    "not tried": ("not tried", "dim"),
}


def check(
    what: Annotated[
        list[str],
        typer.Argument(
            metavar="[strategy|scenario] NAME",
            help="A name from 'retune list' or a Python file; a strategy's where no kind is given.",
        ),
    ],
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="A setting; may be repeated.")
    ] = None,
    time_limit: Annotated[
        float, typer.Option(min=0.1, help="Seconds a check may take; three times as much for all together.")
    ] = 20.0,
    json: AsJson = False,
) -> None:
    """See on small made-up data whether a strategy, or a scenario, keeps the contract."""
    from retune.check import check_scenario, check_strategy
    from retune.cli.console import bars, print_json
    from retune.settings import parse_assignments

    kind, name = _read(what)
    given = parse_assignments(set_ or [])
    settings = {key.removeprefix(f"{kind}."): value for key, value in given.items()}
    with bars() as progress:
        if kind == "scenario":
            report = check_scenario(name, settings, limit=time_limit, progress=progress)
        else:
            report = check_strategy(name, settings, limit=time_limit, progress=progress)
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
        raise UserError(
            "give one name", where=f"retune check {' '.join(what)}", fix="retune check strategy NAME"
        )
    if kind not in KINDS:
        raise UnknownName("kind", kind, KINDS, where="retune check")
    return kind, name

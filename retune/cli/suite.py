"""``retune suite``: the whole table with one command."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from retune.cli.options import (
    AsJson,
    BlankLabels,
    Metrics,
    Precisions,
    Root,
    TimeLimit,
    Transfer,
    UncertainLabels,
)

if TYPE_CHECKING:
    from rich.console import Console

    from retune.suite.execute import Outcome
    from retune.suite.plans import Plans

Several = list[str] | None
File = Annotated[Path | None, typer.Argument(metavar="FILE", help="A TOML file; options count in its place.")]
Strategies = Annotated[
    Several,
    typer.Option(help="Strategy, NAME/PRESET, or a Python file; again for more.", show_default="all"),
]
Scenarios = Annotated[
    Several,
    typer.Option(
        help="Scenario, or a Python file; again for more.",
        show_default="class-, label-, data-incremental",
    ),
]
DataSets = Annotated[
    Several,
    typer.Option(
        help="Data set, or NAME/PRESET; again for more.", show_default="the scenario's own, or phantom"
    ),
]
Backbones = Annotated[Several, typer.Option(help="Backbone; again for more.", show_default="phantom-clip")]
Prompts = Annotated[
    str | None,
    typer.Option(
        help="Prompt bank, or a JSONL file.", show_default="that of the data's preset, else language-model"
    ),
]
Seeds = Annotated[int | None, typer.Option(min=1, help="Seeds 0 to N-1.", show_default="5")]
Orders = Annotated[Several, typer.Option(help="Label order: dataset, frequency or random; again for more.")]
TaskOrders = Annotated[
    int | None,
    typer.Option(help="Task orders 1 to N; 1 is the scenario's own.", show_default="its own alone"),
]
Steps = Annotated[int | None, typer.Option(help="Number of experiences.")]
Settings = Annotated[
    Several,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="For whatever has it: epochs=5, data.size=64, scenario.by=site.",
    ),
]
Uncertain = Annotated[UncertainLabels | None, typer.Option(help="What labels marked uncertain count as.")]
Blank = Annotated[BlankLabels | None, typer.Option(help="What labels not mentioned count as.")]
Device = Annotated[str | None, typer.Option(help="Where to encode and learn.", show_default="auto")]
Precision = Annotated[Precisions | None, typer.Option(help="Precision of the products.", show_default="fp32")]
Replicates = Annotated[
    int | None, typer.Option(help="Bootstrap replicates behind each interval.", show_default="1000")
]
SkipBadImages = Annotated[
    bool | None, typer.Option("--skip-bad-images", help="Go on without images missing or damaged.")
]
Out = Annotated[Path | None, typer.Option(help="Folder of the suite.", show_default="suite, or FILE's name")]
Jobs = Annotated[int | None, typer.Option(min=1, help="Runs at the same time.", show_default="one per core")]
Dask = Annotated[
    str | None, typer.Option(metavar="ADDRESS", help="Run on the Dask cluster of this scheduler.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would be run.")]


def suite(
    file: File = None,
    strategy: Strategies = None,
    scenario: Scenarios = None,
    data: DataSets = None,
    root: Root = None,
    backbone: Backbones = None,
    prompts: Prompts = None,
    seeds: Seeds = None,
    order: Orders = None,
    orders: TaskOrders = None,
    steps: Steps = None,
    settings: Settings = None,
    uncertain: Uncertain = None,
    blank: Blank = None,
    device: Device = None,
    precision: Precision = None,
    replicates: Replicates = None,
    transfer: Transfer = None,
    metric: Metrics = None,
    time_limit: TimeLimit = None,
    skip_bad_images: SkipBadImages = None,
    out: Out = None,
    jobs: Jobs = None,
    dask: Dask = None,
    dry_run: DryRun = False,
    json: AsJson = False,
) -> None:
    """Run strategies x scenarios x data sets x backbones x seeds; the same command again continues or shows it.

    Keys of FILE: strategies (names, or tables of strategy, name, set, search),
    scenarios, data (names, or tables of data, name, root, uncertain, blank,
    set), root, backbones, prompts, seeds (how many, or which), orders (how many task orders, or label
    orders by name), steps,
    uncertain, blank, set, strategy.NAME (settings of one), search.NAME (values
    to choose from), replicates, device, precision, transfer, metrics, time_limit, skip_bad_images.
    """
    from retune.cli.console import bars, console, print_json
    from retune.cli.suite_plans import print_plans
    from retune.cli.suite_tables import print_tables
    from retune.data.source import parse_roots
    from retune.errors import BadSetting
    from retune.settings import parse_assignments
    from retune.suite.document import document
    from retune.suite.grid import expand
    from retune.suite.plans import plan_suite
    from retune.suite.run import finish, tabulate
    from retune.suite.spec import read_suite
    from retune.suite.work import shared

    if order and orders is not None:
        raise BadSetting("--order and --orders exclude each other", fix="give one of them")
    given: dict[str, Any] = {
        "strategies": strategy, "scenarios": scenario, "data": data, "backbones": backbone,
        "root": parse_roots(root, ",".join(data or [])), "prompts": prompts, "seeds": seeds,
        "orders": order if orders is None else orders, "steps": steps, "set": parse_assignments(settings or []) or None,
        "uncertain": uncertain, "blank": blank, "device": device,
        "precision": precision, "replicates": replicates, "transfer": transfer, "metrics": metric,
        "time_limit": time_limit, "skip_bad_images": skip_bad_images,
    }  # fmt: skip
    read = read_suite(file, given)
    folder = out or Path(file.stem if file else "suite")
    with bars() as progress:
        plans = plan_suite(expand(read, shared), folder, shared=shared, count=dry_run, progress=progress)
    if dry_run:
        if json:
            print_json(document(read, plans, folder))
        else:
            print_plans(plans, folder, jobs, console())
            _print_left_out(plans, console())
            _print_failures([(f.reason, f.run.name, None) for f in plans.failures], console())
        if plans.failures:
            raise typer.Exit(1)
        return
    with bars() as progress:
        outcome = finish(
            read,
            plans,
            folder,
            console(stderr=True),
            workers=jobs,
            dask=dask,
            progress=progress,
        )
    with bars() as progress:
        summary = tabulate(outcome, folder, progress)
    if summary is not None and not json:
        print_tables(summary, console())
    if json:
        print_json(document(read, plans, folder, outcome))
    else:
        _print_outcome(plans, outcome, folder, console())
    if outcome.failures:
        raise typer.Exit(1)


def _print_outcome(plans: Plans, outcome: Outcome, out: Path, to: Console) -> None:
    """What was left out, what failed and how to repeat it, and where everything is."""
    from rich.text import Text

    from retune.suite.execute import LOG_FILE

    commands = {id(job.run): job.command for job in plans.jobs}
    _print_left_out(plans, to)
    for strategy, text in outcome.printed.items():
        first = text.splitlines()[0]
        to.print(
            Text(f"Strategy {strategy} printed: {first!r}; the rest is in {out / LOG_FILE}."), soft_wrap=True
        )
    _print_failures(
        [(f.reason, f.run.name, commands.get(id(f.run)) or f.run.command()) for f in outcome.failures], to
    )
    to.print()
    counts = f"{len(outcome.finished):,} of {len(outcome.finished) + len(outcome.failures):,} runs are done"
    to.print(Text(f"{counts}. Written to {out}"), soft_wrap=True)


def _print_left_out(plans: Plans, to: Console) -> None:
    from rich.text import Text

    for skipped in plans.skipped:
        to.print(Text(f"Left out: {skipped.what}: {skipped.reason}", "dim"), soft_wrap=True)


def _print_failures(failures: list[tuple[str, str, str | None]], to: Console) -> None:
    """Each reason once, with the runs that it stopped, and a command that repeats the first alone."""
    from rich.text import Text

    reasons = dict.fromkeys(reason for reason, _, _ in failures)
    if reasons:
        to.print()
    for reason in reasons:
        runs = [(name, alone) for other, name, alone in failures if other == reason]
        to.print(
            Text(f"Failed, {len(runs)} {'run' if len(runs) == 1 else 'runs'}: {reason}", "bold red"),
            soft_wrap=True,
        )
        for name, alone in runs:
            to.print(Text(f"  {name}"), soft_wrap=True)
            if alone:
                to.print(Text(f"    alone: {alone}", "dim"), soft_wrap=True)

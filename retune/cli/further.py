"""``retune continue``: one more experience on top of a finished run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from retune.cli.options import AsJson, Blank, Device, Root, SkipBadImages, Uncertain


def further(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a finished run.")],
    data: Annotated[str | None, typer.Option(help="Data set that arrives.")] = None,
    root: Root = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="A setting of the data set: data.views=PA."),
    ] = None,
    uncertain: Uncertain = None,
    blank: Blank = None,
    same_labels: Annotated[
        bool, typer.Option("--same-labels", help="Leave out labels that the run does not know.")
    ] = False,
    strategy: Annotated[
        str | None, typer.Option(metavar="FILE", help="The strategy's Python file, where it is one's own.")
    ] = None,
    backbone: Annotated[
        str | None, typer.Option(help="Where the backbone is here.", show_default="as the run names it")
    ] = None,
    device: Device = "auto",
    skip_bad_images: SkipBadImages = False,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the continued run.", show_default="RUN+1")
    ] = None,
    undo: Annotated[
        bool, typer.Option("--undo", help="Remove a continued run; the run before it is as it was.")
    ] = False,
    json: AsJson = False,
) -> None:
    """Learn from data that arrive after a run, without its images; the run itself stays as it is."""
    from rich.text import Text

    from retune.cli.console import bars, console, plain_table, print_json, say
    from retune.data.source import parse_roots
    from retune.errors import BadSetting
    from retune.features.export import of_data
    from retune.learnt.further import further as learn
    from retune.learnt.further import undo as remove
    from retune.results.text import number
    from retune.settings import parse_assignments

    if undo:
        before = remove(run)
        stays = run.exists()
        if json:
            print_json({"removed": str(run), "before": before, "folder_stays": stays})
            return
        what = f"{run}, which was never finished" if not before else str(run)
        say(f"Removed {what}; the run{f' {before}' * bool(before)} from which it went on is as it was")
        if stays:
            say("The folder stays, for it holds files that are none of the run's")
        return
    if data is None:
        raise BadSetting("nothing arrives", fix="name the data set: --data csv --root DIR")
    with bars() as progress:
        result, folder = learn(
            run, data=data, root=parse_roots(root, data), settings=of_data(parse_assignments(settings or [])),
            uncertain=uncertain, blank=blank, same_labels=same_labels, strategy=strategy, backbone=backbone,
            device=device, skip_bad_images=skip_bad_images, out=out, progress=progress,
        )  # fmt: skip
    if json:
        print_json(result.model_dump(by_alias=True))
        return
    show = console()
    assert result.continued is not None
    table = plain_table()
    for head in (
        "AUC on test images",
        "images",
        "zero-shot",
        "before",
        "after",
        "change, known labels",
    ):
        table.add_column(head, justify="left" if head.startswith("AUC") else "right")
    for name, part in result.continued.parts.items():
        means = [_mean(row) for row in part.auc_matrix]
        change = part.metrics["backward_transfer"]
        value, low, high = (number(one, signed=True) for one in (change.value, change.low, change.high))
        table.add_row(name, f"{part.n_test:,}", *map(number, means), f"{value} ({low} to {high})")
    show.print(
        f"{result.strategy.called} went on with {data}: {result.scenario.experiences[-1].n_train:,} training images"
    )
    show.print(table)
    fresh = [c for c, first in enumerate(result.first) if first == 2]
    if fresh:
        ends = zip(result.auc_matrix[1], result.auc_matrix[2], strict=True)
        told = [f"{number(one)} before, {number(two)} after" for one, two in ends]
        names = "; ".join(f"{result.labels[c]} (AUC {told[c]})" for c in fresh)
        show.print(Text(f"Newly learnt: {names}"))
    for line in (*result.dataset.notes, *result.cautions):
        show.print(Text(line, "yellow"))
    show.print(f"Written to {folder}; {run} is as it was", soft_wrap=True)
    show.print(
        Text(f"Next: retune continue {folder} --undo, or retune export {folder} --out DIR", "dim"),
        soft_wrap=True,
    )


def _mean(row: list[float | None]) -> float | None:
    known = [auc for auc in row if auc is not None]
    return sum(known) / len(known) if known else None

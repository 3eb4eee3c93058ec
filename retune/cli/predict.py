"""``retune predict``: scores of pictures by an exported model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

from retune.cli.options import AsJson, Device

SHOWN: Final = 10
"""Refused images that are named."""


def predict(
    model: Annotated[Path, typer.Argument(metavar="DIR", help="Folder that 'retune export' wrote.")],
    images: Annotated[
        list[Path],
        typer.Argument(
            metavar="IMAGES",
            help="PNG, JPEG or DICOM files, folders of such, or .txt files that name such.",
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="FILE", help="The scores, ending in .csv.")] = Path(
        "scores.csv"
    ),
    strategy: Annotated[
        str | None, typer.Option(metavar="FILE", help="The strategy's Python file, where it is one's own.")
    ] = None,
    backbone: Annotated[
        str | None, typer.Option(help="Where the backbone is here.", show_default="as the model names it")
    ] = None,
    device: Device = "auto",
    force: Annotated[bool, typer.Option("--force", help="Replace a file that holds no scores.")] = False,
    json: AsJson = False,
) -> None:
    """Score chest radiographs by an exported model. Research use only."""
    from rich.padding import Padding
    from rich.text import Text

    from retune.cli.console import bars, console, print_json
    from retune.learnt.model import NO_DEVICE, USE
    from retune.learnt.predict import predict as score

    with bars() as progress:
        done = score(
            model,
            images,
            out=out,
            strategy=strategy,
            backbone=backbone,
            device=device,
            force=force,
            progress=progress,
        )
    if json:
        print_json({"out": str(out), "scored": int(done.scored.sum()), "refused": done.refused,
                    "notes": done.notes, "cautions": done.about.cautions, "use": USE})  # fmt: skip
        return
    show, n = console(), int(done.scored.sum())
    show.print(f"{n:,} {'image' if n == 1 else 'images'} scored, {len(done.refused):,} refused")
    for name, why in list(done.refused.items())[:SHOWN]:
        show.print(Padding(Text(f"{name}: {why}", "yellow"), (0, 0, 0, 2), expand=False))
    if len(done.refused) > SHOWN:
        show.print(Text(f"  and {len(done.refused) - SHOWN:,} more, in the column 'refused'", "yellow"))
    for line in done.about.cautions:
        show.print(Text(line, "yellow"))
    for line in done.notes:
        show.print(Text(f"The last bits may differ from the run's: {line}", "dim"))
    show.print(f"Written to {out}", soft_wrap=True)
    show.print(NO_DEVICE)

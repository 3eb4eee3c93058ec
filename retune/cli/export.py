"""``retune export``: what a run learnt, in a folder that one can take away."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from retune.cli.options import AsJson


def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a finished run.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="A folder that is not there yet.")],
    with_samples: Annotated[
        bool,
        typer.Option("--with-samples", help="Though the model holds pictures or vectors of training images."),
    ] = False,
    json: AsJson = False,
) -> None:
    """Write a run's model into a folder: weights, thresholds, prompts, a model card. Research use only."""
    from rich.text import Text

    from retune.cli.console import console, print_json
    from retune.learnt.model import NO_DEVICE
    from retune.learnt.write import export as write
    from retune.results.text import size, stored

    done = write(run, out, with_samples=with_samples)
    if json:
        print_json({"folder": str(done.folder), "bytes": done.bytes, "existed": done.existed,
                    **done.about.model_dump(by_alias=True)})  # fmt: skip
        return
    show, about = console(), done.about
    stood = "; it stood there already" if done.existed else ""
    show.print(
        f"{about.strategy.called} on {about.backbone.name}, {len(about.labels)} labels, {size(done.bytes)}{stood}"
    )
    for line in about.cautions:
        show.print(Text(line, "yellow"))
    if done.stored.bytes:
        kept = stored(done.stored.images, done.stored.features, done.stored.bytes)
        show.print(Text(f"It holds samples of training patients: {kept}.", "yellow"))
    show.print(f"Written to {done.folder}", soft_wrap=True)
    show.print(NO_DEVICE)
    # Bare and unbroken, so that it can be copied whole.
    asked = shlex.join([str(done.folder), "IMAGES", *done.options, "--out", "scores.csv"])
    show.print(Text(f"Next: retune predict {asked}", "dim"), soft_wrap=True)

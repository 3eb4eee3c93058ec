"""Options that several subcommands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

# As the library has them, whose modules are not imported for a page of help.
UncertainLabels = Literal["ignore", "zeros", "ones"]
BlankLabels = Literal["ignore", "zeros"]
Precisions = Literal["fp32", "bf16"]

Root = Annotated[
    list[str] | None,
    typer.Option(
        metavar="DIR", help="Folder of the data set's files; NAME=DIR for each of several data sets."
    ),
]
Backbone = Annotated[
    str,
    typer.Option(
        help="Backbone, or open_clip:NAME/TAG, hf-hub:ORG/REPO, local-dir:PATH, pair:VISION+TEXT, features:FILE."
    ),
]
Uncertain = Annotated[
    UncertainLabels | None,
    typer.Option(help="What labels marked uncertain count as.", show_default="the data set's"),
]
Blank = Annotated[
    BlankLabels | None,
    typer.Option(help="What labels not mentioned count as.", show_default="the data set's"),
]
Device = Annotated[str, typer.Option(help="Where to encode and learn: auto, cpu, cuda, cuda:1.")]
Precision = Annotated[Precisions, typer.Option(help="Precision of the products.")]
SkipBadImages = Annotated[
    bool, typer.Option("--skip-bad-images", help="Go on without images that are missing or damaged.")
]
TimeLimit = Annotated[
    float | None,
    typer.Option(
        metavar="SECONDS", help="The longest a strategy may take for one experience.", show_default="none"
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print as JSON.")]
BoardFolder = Annotated[Path, typer.Option("--board", metavar="DIR", help="Folder of the leaderboard.")]
Metrics = Annotated[
    list[str] | None,
    typer.Option(
        "--metric",
        metavar="NAME",
        help="A metric of your own, or a Python file; again for more. Not part of the benchmark.",
        show_default="those installed",
    ),
]
Transfer = Annotated[
    str | None,
    typer.Option(
        metavar="NAME[:DATA]",
        help="Measure beside it, at every moment, what the image side is good for: segmentation, segmentation:siim.",
        show_default="nothing",
    ),
]

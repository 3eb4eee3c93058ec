"""``retune embed``: a file of features to share or to come back to."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from retune.cli.options import AsJson, Backbone, Device, Precision, Root, SkipBadImages


class Parts(StrEnum):
    """Which images."""

    all = "all"
    train = "train"
    valid = "valid"
    test = "test"


def embed(
    out: Annotated[Path, typer.Option(metavar="FILE", help="The file, ending in .safetensors.")],
    data: Annotated[
        str, typer.Option(help="Data set, or several with commas between; phantom needs no files.")
    ] = "phantom",
    root: Root = None,
    backbone: Backbone = "phantom-clip",
    prompts: Annotated[
        str | None, typer.Option(help="Prompt bank, or a JSONL file, whose texts go into the file, too.")
    ] = None,
    split: Annotated[Parts, typer.Option(help="Which images.")] = Parts.all,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="A setting of the data set: data.views=PA."),
    ] = None,
    device: Device = "auto",
    precision: Precision = "fp32",
    skip_bad_images: SkipBadImages = False,
    force: Annotated[bool, typer.Option("--force", help="Replace a file of other content.")] = False,
    json: AsJson = False,
) -> None:
    """Encode a data set and write a file of features, which --backbone features:FILE reads."""
    from dataclasses import asdict

    from retune.cli.console import bars, console, print_json
    from retune.data.source import parse_roots
    from retune.features.export import embed as write
    from retune.prompts import load
    from retune.settings import parse_assignments

    with bars() as progress:
        done = write(
            out,
            data=data,
            root=parse_roots(root, data),
            backbone=backbone,
            texts=[prompt.text for prompt in load(prompts).prompts] if prompts else (),
            split=split.value,
            settings=parse_assignments(settings or []),
            device=device,
            precision=precision,
            skip_bad_images=skip_bad_images,
            force=force,
            progress=progress,
        )
    if json:
        print_json({**asdict(done), "path": str(done.path)})
        return
    show = console()
    left_out = f", {done.unreadable:,} left out" if done.unreadable else ""
    texts = f" and {done.texts:,} texts" if done.texts else ""
    size = f"{done.bytes / 1e6:,.1f} MB"
    show.print(
        f"{done.images:,} images{left_out}{texts} in {done.dim} dimensions, {size}; "
        f"{done.images_encoded:,} encoded now in {done.seconds:.1f} s"
    )
    show.print(f"Written to {done.path}", soft_wrap=True, markup=False)

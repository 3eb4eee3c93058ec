"""``retune run``: one strategy over one stream."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class UncertainLabels(StrEnum):
    """What labels marked uncertain count as."""

    ignore = "ignore"
    zeros = "zeros"
    ones = "ones"


class BlankLabels(StrEnum):
    """What labels that are not mentioned count as."""

    ignore = "ignore"
    zeros = "zeros"


class Precisions(StrEnum):
    """Precision of the products."""

    fp32 = "fp32"
    bf16 = "bf16"


def run(
    scenario: Annotated[
        str | None,
        typer.Option(
            help="Scenario, or a Python file  [default: class-incremental; data-incremental over several data sets]",
        ),
    ] = None,
    strategy: Annotated[str, typer.Option(help="Strategy, or a Python file.")] = "re-tune",
    data: Annotated[
        str | None,
        typer.Option(
            help="Data set, or several with commas between  [default: phantom, which is synthetic and needs no files]"
        ),
    ] = None,
    root: Annotated[
        list[str] | None,
        typer.Option(
            metavar="DIR", help="Folder of the data set's files; NAME=DIR for each of several data sets."
        ),
    ] = None,
    backbone: Annotated[
        str,
        typer.Option(
            help="Backbone, or open_clip:NAME/TAG, hf-hub:ORG/REPO, local-dir:PATH, pair:VISION+TEXT, features:FILE."
        ),
    ] = "phantom-clip",
    prompts: Annotated[str, typer.Option(help="Prompt bank, or a JSONL file.")] = "language-model",
    uncertain: Annotated[
        UncertainLabels | None,
        typer.Option(help="What labels marked uncertain count as  [default: the data set's]"),
    ] = None,
    blank: Annotated[
        BlankLabels | None, typer.Option(help="What labels not mentioned count as  [default: the data set's]")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Number of experiences.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of every random draw  [default: 0]")] = None,
    seeds: Annotated[int | None, typer.Option(help="Run seeds 0 to N-1 and give mean and deviation.")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="A setting: lr=1e-3, scenario.order=random, data.size=64."
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="Where to encode and learn: auto, cpu, cuda, cuda:1.")] = "auto",
    precision: Annotated[
        Precisions, typer.Option(help="Of products, in encoding and learning.")
    ] = Precisions.fp32,
    out: Annotated[Path | None, typer.Option(help="Folder of the run  [default: one below runs/]")] = None,
    skip_bad_images: Annotated[
        bool, typer.Option("--skip-bad-images", help="Go on without images that are missing or damaged.")
    ] = False,
    replicates: Annotated[int, typer.Option(help="Bootstrap replicates behind each interval.")] = 1000,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Run one strategy over one stream; the same command again continues or shows it."""
    from dataclasses import replace

    from retune.cli.console import bars, print_json
    from retune.cli.tables import print_run, print_seeds
    from retune.data.source import parse_roots
    from retune.errors import BadSetting
    from retune.runner import prepare
    from retune.settings import parse_assignments
    from retune.spec import Spec

    if seed is not None and seeds is not None:
        raise BadSetting("--seed and --seeds exclude each other", fix="give one of them")
    if seeds is not None and seeds < 1:
        raise BadSetting(f"{seeds} is below 1", where="--seeds", fix="give a whole number from 1")
    spec = Spec(
        scenario=scenario,
        strategy=strategy,
        data=data,
        root=parse_roots(root, data),
        backbone=backbone,
        prompts=prompts,
        steps=steps,
        seed=seed or 0,
        uncertain=uncertain.value if uncertain else None,
        blank=blank.value if blank else None,
        settings=parse_assignments(settings or []),
        device=device,
        precision=precision.value,
        skip_bad_images=skip_bad_images,
        replicates=replicates,
    )
    chosen = range(seeds) if seeds is not None else [spec.seed]
    finished = []
    for k in chosen:
        folder = out / f"seed-{k}" if out is not None and seeds is not None else out
        with bars(f"seed {k}: " if len(chosen) > 1 else "") as progress:
            ready = prepare(replace(spec, seed=k), folder, progress=progress)
            finished.append((ready.execute(progress=progress), ready.folder))
    if json:
        documents = [result.model_dump(by_alias=True) for result, _ in finished]
        print_json(documents if seeds is not None else documents[0])
    elif seeds is not None:
        print_seeds(finished)
    else:
        print_run(*finished[0])

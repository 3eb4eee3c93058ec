"""``retune run``: one strategy over one stream."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from retune.cli.options import (
    AsJson,
    Backbone,
    Blank,
    Device,
    Metrics,
    Precision,
    Root,
    SkipBadImages,
    TimeLimit,
    Transfer,
    Uncertain,
)

Scenario = Annotated[
    str | None,
    typer.Option(
        help="Scenario, or a Python file.",
        show_default="class-incremental; data-incremental over several data sets",
    ),
]
Data = Annotated[
    str | None,
    typer.Option(
        help="Data set, NAME/PRESET, or several with commas between.",
        show_default="phantom, which is synthetic and needs no files",
    ),
]
Prompts = Annotated[
    str | None,
    typer.Option(
        help="Prompt bank, or a JSONL file.", show_default="that of the data's preset, else language-model"
    ),
]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="A setting: lr=1e-3, scenario.order=random, data.size=64."
    ),
]

Out = Annotated[Path | None, typer.Option(help="Folder of the run.", show_default="one below runs/")]
Search = Annotated[
    list[str] | None,
    typer.Option(
        metavar="KEY=VALUE,VALUE",
        help="Choose a setting of the strategy on held-out patients of the first experience.",
    ),
]


def run(
    scenario: Scenario = None,
    strategy: Annotated[str, typer.Option(help="Strategy, NAME/PRESET, or a Python file.")] = "re-tune",
    data: Data = None,
    root: Root = None,
    backbone: Backbone = "phantom-clip",
    prompts: Prompts = None,
    uncertain: Uncertain = None,
    blank: Blank = None,
    steps: Annotated[int | None, typer.Option(help="Number of experiences.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of every random draw.", show_default="0")] = None,
    seeds: Annotated[int | None, typer.Option(help="Run seeds 0 to N-1 and give mean and deviation.")] = None,
    settings: Settings = None,
    search: Search = None,
    device: Device = "auto",
    precision: Precision = "fp32",
    out: Out = None,
    skip_bad_images: SkipBadImages = False,
    replicates: Annotated[int, typer.Option(help="Bootstrap replicates behind each interval.")] = 1000,
    transfer: Transfer = None,
    metric: Metrics = None,
    time_limit: TimeLimit = None,
    recheck: Annotated[
        bool, typer.Option("--recheck", help="Read every file anew; trust no remembered digest.")
    ] = False,
    json: AsJson = False,
) -> None:
    """Run one strategy over one stream; the same command again continues or shows it."""
    from dataclasses import replace

    from retune.cache import forget_digests
    from retune.cli.console import bars, print_json
    from retune.cli.tables import print_run, print_seeds
    from retune.data.source import parse_roots
    from retune.errors import BadSetting
    from retune.runner.run import prepare
    from retune.runner.spec import MOST_SEEDS, Spec
    from retune.settings import parse_assignments, parse_search

    if seed is not None and seeds is not None:
        raise BadSetting("--seed and --seeds exclude each other", fix="give one of them")
    if seeds is not None and seeds < 1:
        raise BadSetting(f"{seeds} is below 1", where="--seeds", fix="give a whole number from 1")
    if seeds is not None and seeds > MOST_SEEDS:
        raise BadSetting(f"{seeds:,} is more than {MOST_SEEDS:,}", where="--seeds", fix="give fewer")
    spec = Spec(
        scenario=scenario,
        strategy=strategy,
        data=data,
        root=parse_roots(root, data),
        backbone=backbone,
        prompts=prompts,
        steps=steps,
        seed=seed or 0,
        uncertain=uncertain,
        blank=blank,
        settings=parse_assignments(settings or []),
        device=device,
        precision=precision,
        skip_bad_images=skip_bad_images,
        replicates=replicates,
        search=parse_search(search or []),
        transfer=transfer,
        metrics=metric or (),
        time_limit=time_limit,
    )
    if recheck:
        forget_digests()
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

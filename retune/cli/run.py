"""``retune run``: one strategy over one stream."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def run(
    scenario: Annotated[str, typer.Option(help="Scenario, or a Python file.")] = "class-incremental",
    strategy: Annotated[str, typer.Option(help="Strategy, or a Python file.")] = "re-tune",
    data: Annotated[str, typer.Option(help="Data set; phantom is synthetic and needs no files.")] = "phantom",
    root: Annotated[Path | None, typer.Option(help="Folder of the data set's files.")] = None,
    backbone: Annotated[
        str, typer.Option(help="Backbone, or open_clip:NAME/TAG, hf-hub:ORG/REPO, local-dir:PATH.")
    ] = "phantom-clip",
    prompts: Annotated[str, typer.Option(help="Prompt bank, or a JSONL file.")] = "language-model",
    steps: Annotated[int | None, typer.Option(help="Number of experiences.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of every random draw  [default: 0]")] = None,
    seeds: Annotated[int | None, typer.Option(help="Run seeds 0 to N-1 and give mean and deviation.")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="A setting: lr=1e-3, scenario.order=random, data.size=64."
        ),
    ] = None,
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
        root=root,
        backbone=backbone,
        prompts=prompts,
        steps=steps,
        seed=seed or 0,
        settings=parse_assignments(settings or []),
        skip_bad_images=skip_bad_images,
        replicates=replicates,
    )
    chosen = range(seeds) if seeds is not None else [spec.seed]
    finished = []
    for k in chosen:
        folder = out / f"seed-{k}" if out is not None and seeds is not None else out
        ready = prepare(replace(spec, seed=k), folder)
        with bars(f"seed {k}: " if len(chosen) > 1 else "") as progress:
            finished.append((ready.execute(progress=progress), ready.folder))
    if json:
        documents = [result.model_dump(by_alias=True) for result, _ in finished]
        print_json(documents if seeds is not None else documents[0])
    elif seeds is not None:
        print_seeds(finished)
    else:
        print_run(*finished[0])

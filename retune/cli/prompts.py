"""``retune prompts``: banks written by a language model, looked over, and put to the test prompt by prompt."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from retune.prompts.writer.generate import Generated
    from retune.prompts.zero_shot import BankScores, FindingScore

app = typer.Typer(help="List, generate, lint and score prompt banks.", invoke_without_command=True)
AsJson = Annotated[bool, typer.Option("--json", help="Print as JSON.")]
Bank = Annotated[str, typer.Argument(help="A bank from 'retune list prompts', or a JSONL file.")]


@app.callback()
def _list_by_default(context: typer.Context, json: AsJson = False) -> None:
    """List, generate, lint and score prompt banks; lists them where nothing else is asked."""
    if context.invoked_subcommand is None:
        from retune.cli.listing import Kinds, list_

        list_(Kinds.prompts, json)


@app.command("generate")
def generate(
    llm: Annotated[
        str, typer.Option(metavar="SPEC", help="local-dir:PATH, hf-hub:ORG/REPO or http(s)://HOST/v1.")
    ],
    out: Annotated[Path, typer.Option(metavar="BANK", help="The bank, ending in .jsonl; rows are added.")],
    finding: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="What to write about; may be repeated.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every canonical finding.")] = False,
    model: Annotated[str | None, typer.Option(help="The model's name at an endpoint.")] = None,
    per_polarity: Annotated[int, typer.Option(min=1, help="Prompts of each polarity.")] = 10,
    seed: Annotated[int, typer.Option(min=0, help="What everything drawn depends on.")] = 0,
    attempts: Annotated[int, typer.Option(min=1, help="Replies that a polarity of a finding may take.")] = 3,
    instruction: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Your own, with {finding}, {state} and {n} in it.")
    ] = None,
    max_tokens: Annotated[int, typer.Option(min=1, help="Longest reply.")] = 2048,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds an endpoint may take for a reply.")] = 120,
    device: Annotated[str, typer.Option(help="Where a local model works: cpu, cuda, or auto.")] = "auto",
    json: AsJson = False,
) -> None:
    """Ask a language model for prompts; the same command continues. Exit code 1 if some never came out valid.

    An endpoint's key is taken from RETUNE_LLM_KEY or OPENAI_API_KEY and written nowhere.
    """
    from retune.cli.console import bars, print_json
    from retune.data.findings import FINDINGS
    from retune.errors import BadSetting
    from retune.prompts.writer.generate import Request, open_llm
    from retune.prompts.writer.generate import generate as write

    if everything and finding:
        raise BadSetting("goes without --finding", where="--all", fix="give one of the two")
    request = Request(
        findings=FINDINGS if everything else tuple(finding or ()),
        per_polarity=per_polarity,
        seed=seed,
        attempts=attempts,
        instruction=None if instruction is None else _read(instruction),
        max_tokens=max_tokens,
    )
    source = open_llm(llm, model=model, timeout=timeout, device=device)
    with bars() as progress:
        done = write(out, source, request, progress=progress)
    if json:
        print_json(_document(done, per_polarity))
    else:
        _print_generated(done, per_polarity)
    done.require_all()


@app.command("lint")
def lint(
    bank: Bank,
    backbone: Annotated[str | None, typer.Option(help="Whose text tower the prompts must fit into.")] = None,
    json: AsJson = False,
) -> None:
    """Look for prompts that say something else than they should. Exit code 1 if there are any."""
    from dataclasses import asdict

    from rich.text import Text

    from retune.cli.console import console, plain_table, print_json
    from retune.prompts.lint import lint as look

    loaded = None
    if backbone is not None:
        from retune.backbones.load import load_backbone

        loaded = load_backbone(backbone)
    found = look(bank, backbone=loaded)
    if json:
        print_json([asdict(complaint) for complaint in found])
    elif not found:
        console().print(Text(f"{bank}: nothing to complain of"), soft_wrap=True)
    else:
        out = console()
        out.print(Text(found[0].file, "bold"), soft_wrap=True)
        table = plain_table()
        table.add_column("row", justify="right", no_wrap=True)
        for head in ("finding", "what", "hint"):
            table.add_column(head, overflow="fold")
        for complaint in found:
            cells = (complaint.finding, complaint.what, complaint.hint)
            table.add_row(str(complaint.row), *(Text(_printable(cell)) for cell in cells))
        out.print(table)
        out.print()
        out.print(f"{len(found):,} {'complaint' if len(found) == 1 else 'complaints'}")
    if found:
        raise typer.Exit(1)


@app.command("show")
def show(
    bank: Bank,
    data: Annotated[str, typer.Option(help="Data set, or several with commas between.")] = "phantom",
    root: Annotated[
        list[str] | None, typer.Option(metavar="DIR", help="Folder of the data set's files; or NAME=DIR.")
    ] = None,
    backbone: Annotated[str, typer.Option(help="What encodes images and prompts.")] = "phantom-clip",
    finding: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Only this; may be repeated.")
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="A setting of the data set.")
    ] = None,
    device: Annotated[str, typer.Option(help="Where to encode: cpu, cuda, cuda:1, or auto.")] = "auto",
    skip_bad_images: Annotated[
        bool, typer.Option("--skip-bad-images", help="Go on without images that are missing or damaged.")
    ] = False,
    json: AsJson = False,
) -> None:
    """Print a bank with each prompt's zero-shot AUC on the validation split."""
    from dataclasses import asdict

    from retune.backbones.load import load_backbone
    from retune.cli.console import bars, print_json
    from retune.data.source import DataSource, parse_roots
    from retune.prompts import load
    from retune.prompts.zero_shot import score_bank
    from retune.settings import parse_assignments

    chosen = load(bank)
    encoder = load_backbone(backbone, device=device)
    given = {key.removeprefix("data."): v for key, v in parse_assignments(settings or []).items()}
    dataset = DataSource.make(data, parse_roots(root, data), given).read()
    with bars() as progress:
        scores = score_bank(
            chosen,
            dataset,
            encoder,
            findings=finding,
            skip_bad_images=skip_bad_images,
            progress=progress,
        )
    if json:
        print_json(asdict(scores))
    else:
        print_scores(scores)


def print_scores(scores: BankScores) -> None:
    """A table per finding, the best prompts first."""
    from rich.text import Text

    from retune.cli.console import console

    out = console()
    data = f"{scores.dataset} (synthetic)" if scores.synthetic else scores.dataset
    out.print(
        Text.assemble(
            (scores.bank, "bold"),
            f" on {scores.images:,} validation images of ",
            (data, "bold"),
            f", backbone {scores.backbone}",
        )
    )
    out.print(Text("AUC of a positive prompt's cosine (+), of minus a negative prompt's (-);", "dim"))
    out.print(Text("of a finding: of all its positive minus all its negative prompts.", "dim"))
    for found in scores.findings:
        out.print()
        out.print(_finding_table(found))
    if scores.unlabelled:
        out.print()
        text = f"Without a label in {scores.dataset}: {', '.join(scores.unlabelled)}"
        out.print(Text(text, "dim"))


def _finding_table(found: FindingScore) -> Any:
    from rich.text import Text

    from retune.cli.console import plain_table
    from retune.results.text import number

    table = plain_table(heads=False)
    table.add_column("AUC", justify="right", no_wrap=True, min_width=4)
    table.add_column("", no_wrap=True, min_width=1)
    table.add_column("prompt", overflow="fold")
    known = found.present + found.absent
    counts = (
        f"  {found.present:,} have it, {found.absent:,} have not" if known else "  unknown in every image"
    )
    table.add_row(
        Text(number(found.auc), "bold"), "", Text.assemble((found.finding, "bold"), (counts, "dim"))
    )
    for prompt in found.prompts:
        # Worse than a coin: the prompt pulls the wrong way.
        style = "yellow" if prompt.auc is not None and prompt.auc < 0.5 else ""
        sign = "+" if prompt.polarity == "positive" else "-"
        table.add_row(Text(number(prompt.auc), style), sign, Text(_printable(prompt.text), style))
    return table


def _print_generated(done: Generated, per_polarity: int) -> None:
    from rich.text import Text

    from retune.cli.console import console, plain_table

    out = console()
    table = plain_table()
    table.add_column("finding", no_wrap=True)
    table.add_column("polarity", no_wrap=True)
    table.add_column("prompts", justify="right", no_wrap=True)
    table.add_column("", overflow="fold")
    for group in done.kept:
        table.add_row(Text(group.finding), group.polarity, "", Text("was there already", "dim"))
    for group in done.written:
        table.add_row(Text(group.finding), group.polarity, str(per_polarity), "")
    for group, wrong in done.failed:
        table.add_row(Text(group.finding), group.polarity, "0", Text(_printable(wrong), "yellow"))
    for group in done.not_asked:
        table.add_row(Text(group.finding), group.polarity, "0", Text("not asked for any more", "yellow"))
    out.print(table)
    out.print()
    replies = f"{done.replies:,} {'reply' if done.replies == 1 else 'replies'}"
    if done.written:
        out.print(
            Text(f"{len(done.written) * per_polarity:,} prompts from {replies}, written to {done.path}"),
            soft_wrap=True,
        )
    else:
        out.print(Text(f"Nothing new from {replies} in {done.path}"), soft_wrap=True)


def _document(done: Generated, per_polarity: int) -> dict[str, Any]:
    from dataclasses import asdict

    return {
        "path": str(done.path),
        "prompts": len(done.written) * per_polarity,
        "replies": done.replies,
        "written": [asdict(group) for group in done.written],
        "kept": [asdict(group) for group in done.kept],
        "failed": [{**asdict(group), "what": wrong} for group, wrong in done.failed],
        "not_asked": [asdict(group) for group in done.not_asked],
    }


def _read(path: Path) -> str:
    from retune.errors import UserError

    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        raise UserError(f"cannot be read ({reason})", where=str(path), fix="give a text file") from None
    if len(text) > 20_000:
        raise UserError("is longer than 20,000 characters", where=str(path), fix="shorten it")
    return text


def _printable(text: str) -> str:
    """Text without what would steer a terminal."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)

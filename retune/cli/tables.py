"""How runs look in a terminal."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.text import Text

from retune.cli.console import console, plain_table
from retune.cli.transfer_tables import print_transfer
from retune.data.findings import codes
from retune.metrics.seeds import mean_and_sd
from retune.metrics.table import DENSE, Metric, in_table
from retune.results.cautions import cautions
from retune.results.own import NOT_OURS, problems
from retune.results.result import BOUND_LINES, Cost, Result
from retune.results.text import number
from retune.results.verdict import Standing, standings, verdict
from retune.suite.runs import prompts_words

MARKS: Final[dict[Standing, str]] = {"below": "<.5", "at": "~.5"}
"""Below the column of a label that is no better than chance."""
CHANCES: Final[dict[Standing, str]] = {
    "below": "the interval of the final AUC lies below .5",
    "at": "the interval of the final AUC holds .5",
}


def print_run(result: Result, folder: Path) -> None:
    """A run: AUC per label after each experience, labels, metrics, what it comes to, and what to do next."""
    out = console()
    _headline(out, result)
    _matrix(out, result)
    _labels(out, result)
    _metrics(out, result)
    for record in result.transfer:
        print_transfer(out, record)
        if all(result.metric(metric.key).value is None for metric in DENSE):
            continue
        _values(out, DENSE, result)
        told = f"Intervals: bootstrap over {record.n_test_patients:,} test patients."
        out.print(Text(told, "dim"))
        out.print()
    _costs(out, result)
    out.print(Text.assemble("Written to ", (str(folder / "result.json"), "bold")), soft_wrap=True)
    found = verdict(result)
    if found is not None:
        out.print()
        out.print(Text(found, style="bold"))
    out.print()
    for why, command in _next(result):
        out.print(Text(f"Next, {why}:", style="dim"))
        # Bare and unbroken, so that it can be copied whole.
        out.print(Text(command), soft_wrap=True)


def print_seeds(finished: Sequence[tuple[Result, Path]]) -> None:
    """Several seeds of one run: mean and standard deviation of every metric."""
    out = console()
    results = [result for result, _ in finished]
    _headline(out, results[0], seeds=len(results))
    table = plain_table()
    table.add_column("", no_wrap=True)
    table.add_column("mean", justify="right")
    table.add_column("sd", justify="right")
    table.add_column("seeds", justify="right")
    table.add_column("each seed" if len(results) <= 5 else "range")
    told = {m.heading: [r.metric(m.key).value for r in results] for m in (*in_table("run"), *DENSE)}
    own = dict.fromkeys(name for result in results for name in result.own)
    told |= {f"{name} *": [r.own[name].value if name in r.own else None for r in results] for name in own}
    for heading, values in told.items():
        known = [v for v in values if v is not None]
        if not known:
            continue
        mean, sd = map(float, mean_and_sd(known))
        each = (
            " ".join(map(number, values))
            if len(values) <= 5
            else f"{number(min(known))} to {number(max(known))}"
        )
        table.add_row(heading, number(mean), number(sd), str(len(known)), each)
    out.print(table)
    if own:
        out.print(Text(f"* {NOT_OURS}", "dim"))
    for line in dict.fromkeys(line for result in results for line in problems(result)):
        out.print(Text(line, "yellow"))
    out.print()
    for result in results:
        for line in _chosen(result):
            out.print(Text(f"Seed {result.run.seed}: {line}"))
    out.print("Written to", soft_wrap=True)
    for _, folder in finished:
        out.print(Text(f"  {folder / 'result.json'}"), soft_wrap=True)


def _headline(out: Console, result: Result, seeds: int = 0) -> None:
    data = result.dataset.marked
    steps = len(result.scenario.experiences)
    out.print()
    out.print(
        Text.assemble(
            (result.strategy.called, "bold"),
            " on ",
            (data, "bold"),
            f", {result.scenario.name} in {steps} {'step' if steps == 1 else 'steps'}, backbone {result.backbone.name}",
            f"{prompts_words([result.prompts.name])}, ",
            f"{seeds} seeds" if seeds else f"seed {result.run.seed}",
        )
    )
    if result.strategy.bound:
        out.print(Text(BOUND_LINES[result.strategy.bound], "yellow"))
    for line in _asked(result):
        out.print(Text(line, "dim"))
    if not seeds:
        for line in _chosen(result):
            out.print(Text(line))
    for line in (*result.dataset.notes, *cautions(result)):
        out.print(Text(line, "yellow"))
    out.print()


def _asked(result: Result) -> list[str]:
    """What the command names beside the defaults: a preset of data, settings."""
    words = shlex.split(result.run.command)
    named = dict(pairwise(words))
    asked = [words[k + 1] for k, word in enumerate(words[:-1]) if word == "--set"]
    strategy = named.get("--strategy", result.strategy.called)
    if strategy != result.strategy.called:
        asked.insert(0, strategy)
    if "/" in named.get("--data", ""):
        asked.insert(0, named["--data"])
    return [f"With {', '.join(asked)}"] if asked else []


def _chosen(result: Result) -> list[str]:
    """Which settings a search chose, and by what."""
    search = result.strategy.search
    if search is None:
        return []

    def spelt(settings: dict[str, Any]) -> str:
        return ", ".join(f"{name}={value}" for name, value in settings.items())

    best = next(c for c in search.candidates if c.settings == search.chosen)
    failed = [c for c in search.candidates if c.failure is not None]
    lines = [
        f"Chosen of {len(search.candidates)}: {spelt(search.chosen)}; mean AUC {number(best.auc)} on "
        f"{search.n_valid:,} images of held-out patients of the first experience, "
        f"labels {', '.join(search.labels)}."
    ]
    return lines + [f"Not chosen, for it failed: {spelt(c.settings)}: {c.failure}" for c in failed]


def _matrix(out: Console, result: Result) -> None:
    """Experiences as rows, zero-shot first; labels as columns, in as many blocks as the width asks for."""
    heads = codes(result.labels)
    matrix = result.array("auc_matrix")
    marks = [MARKS.get(standing, "") for standing in standings(result)]
    per_block = max((out.width - 9) // 5, 1)
    order = sorted(range(len(heads)), key=lambda c: (result.first[c] or len(matrix), c))
    out.print(Text(f"AUC on {result.dataset.n_test:,} test images: labels across, time down", "bold"))
    for start in range(0, len(order), per_block):
        columns = order[start : start + per_block]
        table = plain_table(gap=1)
        table.add_column("", no_wrap=True, min_width=9)
        for c in columns:
            table.add_column(heads[c], justify="right", no_wrap=True, min_width=4)
        table.add_row("learnt in", *(str(result.first[c] or "-") for c in columns), style="cyan")
        for i, row in enumerate(result.auc_matrix):
            cells = [Text(number(row[c]), style="" if 0 < result.first[c] <= i else "dim") for c in columns]
            table.add_row("zero-shot" if i == 0 else f"after {i}", *cells)
        if any(marks[c] for c in columns):
            table.add_row("chance", *(Text(marks[c], style="bold red") for c in columns))
        out.print(table)
        if any(marks) and columns[-1] == order[-1]:
            told = "; ".join(
                f"{mark} {CHANCES[standing]}" for standing, mark in MARKS.items() if mark in marks
            )
            out.print(Text(f"chance: {told}", "dim"))
        out.print()


def _labels(out: Console, result: Result) -> None:
    table = plain_table()
    for name, justify in (("", "left"), ("label", "left"), ("zero-shot", "right"), ("final", "right")):
        table.add_column(name, justify=justify, no_wrap=True)  # type: ignore[arg-type]
    table.add_column("95 % interval", no_wrap=True)
    table.add_column("forgetting", justify="right", no_wrap=True)
    for c, (code, label) in enumerate(zip(codes(result.labels), result.labels, strict=True)):
        low, high = result.auc_low[-1][c], result.auc_high[-1][c]
        table.add_row(
            Text(code),
            Text(label),
            number(result.auc_matrix[0][c]),
            number(result.auc_matrix[-1][c]),
            f"{number(low)} to {number(high)}",
            number(result.forgetting[c], signed=True),
        )
    out.print(table)
    out.print()


def _metrics(out: Console, result: Result) -> None:
    _values(out, in_table("run"), result)
    out.print(Text(f"Intervals: bootstrap over {result.dataset.n_test_patients:,} test patients.", "dim"))
    out.print()
    if result.own:
        _own(out, result)


def _own(out: Console, result: Result) -> None:
    """Metrics of one's own, apart from the others; of one that broke, why."""
    table = plain_table()
    for head in ("metric of your own", "value", "from", f"meaning; {NOT_OURS}"):
        table.add_column(head, justify="right" if head == "value" else "left", overflow="fold")
    for name, one in result.own.items():
        if not one.problem:
            table.add_row(Text(name, "bold"), number(one.value), one.origin, Text(one.meaning, "dim"))
    if table.row_count:
        out.print(table)
    for line in problems(result):
        out.print(Text(line, "yellow"))
    out.print()


def _values(out: Console, metrics: Iterable[Metric], result: Result) -> None:
    table = plain_table()
    table.add_column("metric", no_wrap=True)
    table.add_column("value", justify="right", no_wrap=True)
    table.add_column("95 % interval", no_wrap=True)
    table.add_column("")
    for metric in metrics:
        found = result.metric(metric.key)
        if found.value is None:
            continue
        span = f"{number(found.low)} to {number(found.high)}" if found.low is not None else ""
        table.add_row(
            Text(metric.heading, "bold"), Text(number(found.value), "bold"), span, Text(metric.meaning, "dim")
        )
    out.print(table)


def kept(cost: Cost) -> str:
    """What was kept of past patients, in words."""
    kinds = [(cost.stored_images, "past images"), (cost.stored_features, "past images' features")]
    counted = [f"{n:,} {kind}" for n, kind in kinds if n]
    if not cost.stored_bytes:
        return "kept 0 past images"
    return f"kept {' and '.join(counted) or 'something of past images'} ({cost.stored_bytes / 1000:,.0f} kB)"


def _costs(out: Console, result: Result) -> None:
    cost = result.cost
    encoded = (
        f"encoded {cost.images_encoded:,} images in {cost.encode_seconds:.0f} s"
        if cost.images_encoded
        else ""
    )
    out.print(
        f"Trained {cost.trainable_parameters:,} of {cost.total_parameters:,} parameters in {cost.fit_seconds:.1f} s; "
        f"{encoded or 'encoded no image anew'}; {kept(cost)}."
    )
    out.print()


def _next(result: Result) -> list[tuple[str, str]]:
    """The same stream with another method, the same method with more seeds, and what else there is."""
    # A folder that holds a run takes no other.
    words = _without(shlex.split(result.run.command), "--out")
    repeat = [*_without(words, "--seed"), "--seeds", "5"]
    compare = _without(words, "--strategy")
    # The other method has other settings; those of the scenario, the data set and the transfer stay.
    for k in range(len(compare) - 2, -1, -1):
        own = compare[k] == "--set" and not compare[k + 1].startswith(("scenario.", "data.", "transfer."))
        if own or compare[k] == "--search":
            del compare[k : k + 2]
    if not result.backbone.name.startswith("pair:"):
        compare += ["--strategy", "joint" if result.strategy.name != "joint" else "zero-shot"]
    elif result.strategy.name != "joint":  # Towers without a joint space know no prompts to begin with.
        compare += ["--strategy", "joint", "--set", "start=zeros"]
    else:
        compare += ["--strategy", "adaptor"]
    commands = {"compare": compare, "repeat": repeat, "see what else there is": ["retune", "list"]}
    return [(why, shlex.join(command)) for why, command in commands.items()]


def _without(words: list[str], option: str) -> list[str]:
    """A command without one option and its value."""
    if option not in words:
        return list(words)
    k = words.index(option)
    return words[:k] + words[k + 2 :]

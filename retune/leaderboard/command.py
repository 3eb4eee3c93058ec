"""How an entry is run again: what to ask for, and the commands to type, from the entry's fields alone."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Final

from retune.errors import UserError
from retune.leaderboard.entry import Entry, Run
from retune.leaderboard.tracks import Track
from retune.plugins import BUILT_IN, registry
from retune.runner.spec import Spec, option

LONG: Final = 3600.0
"""Seconds that a method may take for an experience: the settings of an entry are a stranger's."""


def spec_of(entry: Entry, run: Run, track: Track) -> Spec:
    """What to ask for to repeat a run: the track's data and scenario, and by name what the entry says of its method."""
    settings = entry.strategy.settings if run.settings is None else run.settings
    of = track.transfer if entry.transfer else None
    groups = {
        "data": track.data_settings,
        "scenario": track.scenario_settings,
        "strategy": settings,
        "transfer": of.chosen if of else {},
    }
    bank = entry.prompts.name
    return Spec(
        scenario=track.scenario,
        strategy=_address(entry),
        data=track.data,
        root=_root(entry, track),
        backbone=entry.backbone.name,
        prompts=f"./{bank}" if bank.endswith(".jsonl") else bank,
        seed=run.seed,
        transfer=f"{of.name}:{of.data}" if of else None,
        settings={f"{kind}.{key}": value for kind, group in groups.items() for key, value in group.items()},
        precision=entry.backbone.precision,
        skip_bad_images=entry.data.unreadable_images > 0,
    )


def run_commands(entry: Entry, track: Track) -> list[str]:
    """The commands that make an entry's runs: one, or one for each seed where seeds are not 0 to N-1.

    All settings are given, so that a default that changes later changes nothing.

    Args:
        entry: What was run.
        track: What it was run on.
    """
    folder, runs = f"runs/{track.id}/{entry.name}", entry.runs
    together = [r.seed for r in runs] == list(range(len(runs))) and all(r.settings is None for r in runs)
    devices, threads = {r.device for r in runs}, {r.threads for r in runs}
    always = ["scenario", "strategy", "data", "backbone", "prompts"]
    found = []
    for run in runs[:1] if together else runs:
        spec = spec_of(entry, run, track)
        if len(devices) == 1:
            spec = replace(spec, device=run.device)
        words = spec.words(always if together else [*always, "seed"])
        words += option("seeds", len(runs)) if together else []
        words += option("out", folder if together else f"{folder}/seed-{run.seed}")
        first = f"OMP_NUM_THREADS={run.threads} " if len(threads) == 1 and None not in threads else ""
        found.append(first + _lines(words[:2], words[2:]))
    return found


def submit_command(entry: Entry) -> str:
    """The command that makes the entry from these runs."""
    said = entry.method
    given = [("board", "again"), ("method", said.name), ("version", said.version)]
    given += [("author", author) for author in said.authors]
    given += [(key, value) for key in ("paper", "code", "note") if (value := getattr(said, key))]
    words = [word for key, value in given for word in option(key, value)]
    return _lines(["retune", "submit", f"runs/{entry.track}/{entry.name}"], words)


def verify_command(entry: Entry, track: Track) -> str:
    """The command that checks it, running it again."""
    words = ["retune", "leaderboard", "verify", f"{entry.track}/{entry.name}", "--rerun"]
    return _lines(words, option("root", _root(entry, track) or {}))


def needs(entry: Entry) -> list[str]:
    """What a reader must have before the commands work, a line each."""
    found = []
    if entry.strategy.is_file:
        found.append(
            f"The strategy is a file of the submitter's ({entry.strategy.origin}): put it here first, as "
            f"{_address(entry)}. Nobody else can run it again by its name."
        )
    elif entry.strategy.origin != BUILT_IN:
        found.append(f"The strategy comes from {entry.strategy.origin}: install it first.")
    if entry.backbone.name.startswith(("local-dir:", "features:")):
        found.append("The backbone is a file or folder of the submitter's: put it here first.")
    if entry.prompts.name.endswith(".jsonl"):
        found.append("The prompts are a file of the submitter's: put it here first.")
    return found


def _lines(begin: list[str], options: Iterable[str]) -> str:
    """A command with an option a line."""
    lines = [begin]
    for word in options:
        if word.startswith("--"):
            lines.append([])
        lines[-1].append(word)
    return " \\\n  ".join(map(shlex.join, lines))


def _address(entry: Entry) -> str:
    name, origin = entry.strategy.name, entry.strategy.origin
    if entry.strategy.is_file:
        return f"./{PurePosixPath(name).name.removesuffix('.py')}.py"
    return name if origin == BUILT_IN or ":" in name else f"{origin}/{name}"


def _root(entry: Entry, track: Track) -> str | dict[str, str] | None:
    """Folders of data that a reader must bring."""
    names = track.data.split(",")
    if entry.transfer and track.transfer and track.transfer.reader not in names:
        names.append(track.transfer.reader)
    needed = [name for name in names if _needs_root(name)]
    if len(names) == 1:
        return "DIR" if needed else None
    return dict.fromkeys(needed, "DIR") or None


def _needs_root(dataset: str) -> bool:
    try:
        return bool(registry("datasets").load(dataset).needs_root)
    except UserError:  # Not installed where the page is made; whoever repeats the run has it.
        return True

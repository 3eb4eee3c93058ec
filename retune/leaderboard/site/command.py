"""The commands that repeat an entry, made from its fields alone."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any

from retune.errors import UserError
from retune.leaderboard.entry import Entry, Run
from retune.leaderboard.tracks import Track
from retune.plugins import registry
from retune.settings import typed


def run_commands(entry: Entry, track: Track) -> list[str]:
    """The commands that make an entry's runs: one, or one for each seed where seeds are not 0 to N-1.

    All settings are given, so that a default that changes later changes nothing.

    Args:
        entry: What was run.
        track: What it was run on.
    """
    folder = f"runs/{track.id}/{entry.name}"
    seeds = [run.seed for run in entry.runs]
    if seeds == list(range(len(seeds))) and all(run.settings is None for run in entry.runs):
        many = [("seeds", str(len(seeds))), ("out", folder)]
        return [_command(entry, track, entry.runs[0], many)]
    return [
        _command(entry, track, run, [("seed", str(run.seed)), ("out", f"{folder}/seed-{run.seed}")])
        for run in entry.runs
    ]


def submit_command(entry: Entry) -> str:
    """The command that makes the entry from these runs."""
    method = entry.method
    options = [("board", "again"), ("method", method.name), ("version", method.version)]
    options += [("author", author) for author in method.authors]
    options += [(key, value) for key in ("paper", "code", "note") if (value := getattr(method, key))]
    return _lines(["retune", "submit", f"runs/{entry.track}/{entry.name}"], options)


def verify_command(entry: Entry, track: Track) -> str:
    """The command that checks it, running it again."""
    return _lines(
        ["retune", "leaderboard", "verify", f"{entry.track}/{entry.name}", "--rerun"], list(_roots(track))
    )


def needs(entry: Entry) -> list[str]:
    """What a reader must have before the commands work, a line each."""
    found = []
    if entry.strategy.is_file:
        found.append(
            f"The strategy is a file of the submitter's ({entry.strategy.origin}): put it here first, as "
            f"{_address(entry)}. Nobody else can run it again by its name."
        )
    elif entry.strategy.origin != "retune":
        found.append(f"The strategy comes from {entry.strategy.origin}: install it first.")
    if entry.backbone.name.startswith(("local-dir:", "features:")):
        found.append("The backbone is a file or folder of the submitter's: put it here first.")
    if entry.prompts.name.endswith(".jsonl"):
        found.append("The prompts are a file of the submitter's: put it here first.")
    return found


def _command(entry: Entry, track: Track, run: Run, last: list[tuple[str, str]]) -> str:
    settings = entry.strategy.settings if run.settings is None else run.settings
    options = [("scenario", track.scenario), ("data", track.data), *_roots(track)]
    options += _set("data", track.data_settings)
    options += _set("scenario", track.scenario_settings)
    options += [("strategy", _address(entry)), *_set("strategy", settings)]
    options += [("backbone", entry.backbone.name), ("prompts", _local(entry.prompts.name))]
    if entry.backbone.precision != "fp32":
        options.append(("precision", entry.backbone.precision))
    if len(devices := {run.device for run in entry.runs}) == 1:
        options.append(("device", devices.pop()))
    words = ["retune", "run"]
    if entry.data.unreadable_images:
        words.append("--skip-bad-images")
    threads = {run.threads for run in entry.runs}
    first = f"OMP_NUM_THREADS={threads.pop()} " if len(threads) == 1 and None not in threads else ""
    return first + _lines(words, options + last)


def _lines(words: list[str], options: list[tuple[str, str]]) -> str:
    """A command with an option a line."""
    told = [shlex.join(words)]
    for name, value in options:
        # A value that looks like an option must not be read as one.
        told.append(shlex.join([f"--{name}={value}"] if value.startswith("-") else [f"--{name}", value]))
    return " \\\n  ".join(told)


def _set(whose: str, settings: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [("set", f"{whose}.{key}={typed(value)}") for key, value in settings.items()]


def _address(entry: Entry) -> str:
    name, origin = entry.strategy.name, entry.strategy.origin
    if entry.strategy.is_file:
        return f"./{PurePosixPath(name).name.removesuffix('.py')}.py"
    return name if origin == "retune" or ":" in name else f"{origin}/{name}"


def _local(bank: str) -> str:
    """A prompt bank as it is given: a packaged one by name, a file by its path."""
    return f"./{bank}" if bank.endswith(".jsonl") else bank


def _roots(track: Track) -> Iterator[tuple[str, str]]:
    """Folders of data that a reader must bring."""
    names = track.data.split(",")
    for name in names:
        try:
            taken = registry("datasets").load(name).needs_root
        except UserError:  # Not installed where the page is made; whoever repeats the run has it.
            taken = True
        if taken:
            yield "root", "DIR" if len(names) == 1 else f"{name}=DIR"

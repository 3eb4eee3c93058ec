"""The commands that a page gives to repeat an entry."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from leaderboard.made_entries import (
    CLASS,
    HOSTILE,
    NIH,
    document,
    packaged,
)
from leaderboard.site_pages import parsed

from retune.cli.main import main
from retune.errors import UserError
from retune.leaderboard.command import run_commands, submit_command
from retune.leaderboard.entry import Entry


def spec_of(command: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """What the command line makes of a command."""
    seen: list[Any] = []

    def prepare(spec: Any, folder: Path, **_: Any) -> Any:
        seen.append((spec, folder))
        raise UserError("enough")

    monkeypatch.setattr("retune.runner.run.prepare", prepare)
    words = shlex.split(command.replace("\\\n", " "))
    assert words[:3] == ["OMP_NUM_THREADS=1", "retune", "run"]
    assert main(words[2:]) == 2
    return seen[0]


def test_the_command_gives_the_settings_of_the_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    from retune.plugins import registry
    from retune.settings import make, values_of

    cls = registry("strategies").load("replay")
    wanted = values_of(cls()) | {"lr": 0.0123, "capacity": 7}
    entry = Entry.model_validate(document(name="a", strategy={"name": "replay", "settings": wanted}))
    track = packaged()[CLASS]
    (command,) = run_commands(entry, track)
    assert "--seeds 3" in command
    spec, folder = spec_of(command, monkeypatch)
    assert (spec.scenario, spec.strategy, spec.data, spec.backbone) == (
        track.scenario,
        "replay",
        "phantom",
        "phantom-clip",
    )
    given = {
        key.removeprefix("strategy."): v for key, v in spec.settings.items() if key.startswith("strategy.")
    }
    assert values_of(make(cls, given, owner="test")) == wanted
    scenario = {key[9:]: v for key, v in spec.settings.items() if key.startswith("scenario.")}
    assert (
        values_of(make(registry("scenarios").load(track.scenario), scenario, owner="test"))
        == track.settings()[1]
    )
    from retune.data.source import DataSource

    data = {key[5:]: v for key, v in spec.settings.items() if key.startswith("data.")}
    assert DataSource.make("phantom", None, data).settings == track.settings()[0]
    assert folder == Path(f"runs/{CLASS}/a-1/seed-0")


def test_a_setting_that_is_none_is_read_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    from retune.plugins import registry
    from retune.settings import make, values_of

    entry = Entry.model_validate(document(name="a"))
    assert entry.strategy.settings["penalty"] is None
    spec, _ = spec_of(run_commands(entry, packaged()[CLASS])[0], monkeypatch)
    given = {
        key.removeprefix("strategy."): v for key, v in spec.settings.items() if key.startswith("strategy.")
    }
    assert (
        values_of(make(registry("strategies").load("ridge"), given, owner="test")) == entry.strategy.settings
    )


def test_seeds_and_searched_settings_each_have_their_command(monkeypatch: pytest.MonkeyPatch) -> None:
    odd = Entry.model_validate(document(name="a", seeds=(3, 1)))
    commands = run_commands(odd, packaged()[CLASS])
    assert [spec_of(c, monkeypatch)[0].seed for c in commands] == [3, 1]
    made = document(name="a")
    for k, run in enumerate(made["runs"]):
        run["settings"] = {"penalty": float(k + 1)}
    made["strategy"] |= {"settings": {}, "searched": True}
    commands = run_commands(Entry.model_validate(made), packaged()[CLASS])
    assert [spec_of(c, monkeypatch)[0].settings["strategy.penalty"] for c in commands] == [
        "1.0",
        "2.0",
        "3.0",
    ]


@pytest.mark.parametrize("text", HOSTILE)
def test_no_text_of_an_entry_becomes_a_command_of_its_own(text: str, tmp_path: Path) -> None:
    made = document(
        name="a",
        backbone=text,
        strategy={"name": text, "settings": {"key": text, "more": [text]}},
        method={"note": text},
    )
    entry = Entry.model_validate(made)
    for command in [*run_commands(entry, packaged()[CLASS]), submit_command(entry)]:
        show = f"{sys.executable} -c 'import sys, json; print(json.dumps(sys.argv[1:]))'"
        # A shell reads it as one command whose words are whole.
        shown = command.replace("OMP_NUM_THREADS=1 ", "").replace("retune", show, 1)
        done = subprocess.run(["sh", "-c", shown], capture_output=True, text=True, cwd=tmp_path, check=True)
        words = json.loads(done.stdout)
        assert done.stdout.count("\n") == 1
        assert any(text in word for word in words)
        assert text not in [
            w for k, w in enumerate(words) if text.startswith("-") and words[k - 1].startswith("--")
        ]
    assert list(tmp_path.iterdir()) == []


def test_real_data_asks_for_its_folder(site: Path) -> None:
    text = parsed(site / f"entries/{NIH}/real-1.html").text
    assert "--root DIR" in text
    assert "retune leaderboard verify nih-class-incremental-v1/real-1 --rerun \\\n  --root DIR" in text
    assert "DIR is the folder of your copy of the data" in text
    assert "--root" not in parsed(site / f"entries/{CLASS}/best-1.html").text

"""Named settings of a data set: ``phantom/large``, and how they are asked for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import retune
from retune.cli.main import main
from retune.cli.tables import print_run
from retune.data.findings import CHEXPERT, COMPETITION
from retune.data.source import DataSource
from retune.leaderboard.tracks import Tracks
from retune.report.groups import sections
from retune.runner.plan import plan
from retune.runner.spec import Spec

OLD = {"images": 4000, "seed": 0, "size": 128, "sites": ["A", "B", "C", "D"], "label_noise": 0.02}


def test_a_preset_is_its_settings_by_another_name() -> None:
    large, five = (DataSource.make(f"phantom/{preset}", None) for preset in ("large", "chexpert-5"))
    assert (large.name, large.settings, large.prompts) == ("phantom", OLD | {"images": 34_000}, "")
    assert five.settings == OLD | {"images": 34_000, "findings": list(COMPETITION)}
    assert five.prompts == "lay"
    assert DataSource.make("phantom/large", None, {"images": 90}).settings == OLD | {"images": 90}
    # What was there before there were presets is as it was.
    assert (DataSource.make("phantom", None).settings, DataSource.make("phantom", None).prompts) == (OLD, "")


def test_the_table_has_the_findings_asked_for() -> None:
    whole, five = (
        DataSource.make(name, None, {"images": 90}).read() for name in ("phantom", "phantom/chexpert-5")
    )
    columns = [CHEXPERT.index(label) for label in COMPETITION]
    assert (whole.labels, five.labels) == (CHEXPERT, COMPETITION)
    assert five.targets.tolist() == whole.targets[:, columns].tolist()
    assert five.image_id.tolist() == whole.image_id.tolist()


def test_the_card_of_a_preset_has_its_labels(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "dataset", "phantom/chexpert-5", "--json"]) == 0
    card = json.loads(capsys.readouterr().out)
    assert card["labels"] == list(COMPETITION)
    assert card["prompt_bank"] == "lay"
    assert "14" not in card["summary"]
    assert main(["show", "dataset", "phantom", "--json"]) == 0
    card = json.loads(capsys.readouterr().out)
    assert card["labels"] == list(CHEXPERT)
    assert "prompt_bank" not in card


def test_a_run_takes_the_preset_and_its_prompts_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = {"data.images": 40, "data.size": 32}
    preset, spelt, other = (
        plan(Spec(strategy="zero-shot", settings=few | more, **options))
        for more, options in (
            ({}, {"data": "phantom/chexpert-5"}),
            ({"data.findings": list(COMPETITION)}, {"prompts": "lay"}),
            ({}, {"data": "phantom/chexpert-5", "prompts": "chexzero"}),
        )
    )
    assert preset.id == spelt.id != other.id
    assert (preset.parts.bank.name, other.parts.bank.name) == ("lay", "chexzero")
    words = ["run", "--data", "phantom/chexpert-5", "--strategy", "zero-shot", "--out", str(tmp_path / "out")]
    sets = [word for key, value in few.items() for word in ("--set", f"{key}={value}")]
    assert main([*words, *sets, "--steps", "1", "--replicates", "5"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "With phantom/chexpert-5" in told
    assert "backbone phantom-clip, prompts lay, seed 0" in told
    result = retune.Result.read(tmp_path / "out")
    assert sections([result])[0].title == "phantom/chexpert-5 with phantom-clip"
    usual = result.prompts.model_copy(update={"name": "language-model"})
    print_run(result.model_copy(update={"prompts": usual}), tmp_path)
    assert "backbone phantom-clip, seed 0" in " ".join(capsys.readouterr().out.split())
    command = result.run.command
    assert "--data phantom/chexpert-5" in command
    assert "--prompts" not in command


@pytest.mark.parametrize(
    ("asked", "line"),
    [
        ("run --data phantom/larg", "unknown preset of data set phantom 'larg'; did you mean large?"),
        ("suite --data phantom/larg --dry-run", "unknown preset of data set phantom 'larg'"),
        ("show data phantom/larg", "unknown preset of data set phantom 'larg'"),
        ("run --data phantom/large,phantom", "phantom is named more than once"),
        ('run --set data.findings=["Edma"]', "unknown finding 'Edma'; did you mean Edema?"),
        ("run --set data.findings=[]", "no finding is named, or one twice"),
    ],
    ids=["run", "suite", "show", "twice", "finding", "none"],
)
def test_mistakes_are_one_line(capsys: pytest.CaptureFixture[str], asked: str, line: str) -> None:
    assert main(asked.split()) == 2
    told = capsys.readouterr().err
    assert line in told
    assert told.count("error") == 1


def test_cards_list_presets(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "data", "phantom/large"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "images 34000" in told
    assert "Preset phantom/chexpert-5: images=34000" in told


def test_each_preset_has_its_tracks() -> None:
    table, tracks = DataSource.make("phantom/large", None).read(), Tracks.read()
    for preset, labels in (("large", CHEXPERT), ("chexpert-5", COMPETITION)):
        source = DataSource.make(f"phantom/{preset}", None)
        for kind in ("class", "label", "data"):
            track = tracks.find(f"phantom-{preset}-{kind}-incremental-v1")
            assert track.mismatch(source.settings, track.settings()[1]) == []
            assert track.fingerprint == table.with_labels(labels).fingerprint
            assert track.n_test == len(table.rows("test"))

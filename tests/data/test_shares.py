"""A share of the training patients: which they are, and that every data set can be cut to one."""

from __future__ import annotations

import itertools
import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from retune.cli.main import main
from retune.data.dataset import Dataset, split_by_patient
from retune.data.shares import kept_share
from retune.data.source import DataSource
from retune.errors import UserError
from retune.plugins import registry
from retune.settings import settings_of

PATIENTS = np.array([f"P{k:05}" for k in range(20_000)])


def table(root: Path, rows: list[tuple[str, str, str]]) -> Path:
    """A hospital's table of patient, split and label."""
    root.mkdir(exist_ok=True)
    lines = [f"{k}.png,{patient},{split},{edema},0" for k, (patient, split, edema) in enumerate(rows)]
    (root / "labels.csv").write_text("\n".join(["image,patient,split,Edema,Mass", *lines]) + "\n")
    return root


def read(data: str = "phantom", root: Any = None, **given: Any) -> Dataset:
    return DataSource.make(data, root, {"images": 600, **given} if "phantom" in data else given).read()


def test_a_patient_is_kept_by_the_published_rule() -> None:
    place = [int.from_bytes(sha256(f"transfer\0{p}".encode()).digest()[:8], "big") / 2**64 for p in PATIENTS]
    for share in (0.01, 0.1, 0.5):
        np.testing.assert_array_equal(kept_share(PATIENTS, share), np.array(place) < share)
    assert kept_share(PATIENTS, 1).all()


@pytest.mark.parametrize("draw", [0, 1, 7])
def test_shares_are_nested_and_of_their_size(draw: int) -> None:
    kept = [kept_share(PATIENTS, share, draw) for share in (0.01, 0.1, 0.4, 1.0)]
    for small, large in itertools.pairwise(kept):
        assert not (small & ~large).any()
    # Four standard deviations.
    for share, chosen in zip((0.01, 0.1, 0.4), kept, strict=False):
        assert abs(chosen.mean() - share) < 4 * (share * (1 - share) / len(PATIENTS)) ** 0.5


def test_draws_are_independent_and_who_else_is_there_does_not_matter() -> None:
    first, second = (kept_share(PATIENTS, 0.1, draw) for draw in (0, 1))
    assert 0.006 < (first & second).mean() < 0.014
    np.testing.assert_array_equal(kept_share(PATIENTS[::-3], 0.1), first[::-3])
    # An image is kept with its patient, and whatever split a patient is in has no part in it.
    np.testing.assert_array_equal(kept_share(np.repeat(PATIENTS, 2), 0.1), np.repeat(first, 2))
    test = split_by_patient(PATIENTS) == "test"
    assert 0.08 < first[test].mean() < 0.12


def test_only_training_patients_are_left_out_and_it_is_said() -> None:
    whole, part = read(), read(share=0.04)
    for split in ("valid", "test"):
        np.testing.assert_array_equal(
            whole.image_id[whole.split == split], part.image_id[part.split == split]
        )
    train = whole.split == "train"
    kept = train & kept_share(whole.patient_id, 0.04)
    np.testing.assert_array_equal(part.image_id[part.split == "train"], whole.image_id[kept])
    before, after = (len(set(whole.patient_id[rows].tolist())) for rows in (train, kept))
    why = f"not of the {after} of {before} training patients that share=0.04 keeps"
    assert part.dropped == {why: int((train & ~kept).sum())}
    lost = [
        label
        for c, label in enumerate(whole.labels)
        if whole.targets[train, c].any() and not whole.targets[kept, c].any()
    ]
    assert lost
    assert f"No positive training image is left by share=0.04 of: {', '.join(lost)}" in part.notes
    other = read(share=0.04, draw=1)
    assert "share=0.04 and draw=1" in next(iter(other.dropped))
    assert set(other.image_id.tolist()) != set(part.image_id.tolist())


def test_the_whole_is_what_it_was() -> None:
    source = DataSource.make("phantom", None, {"images": 600, "share": "1", "draw": "0"})
    assert source.settings == DataSource.make("phantom", None, {"images": 600}).settings
    assert "share" not in source.settings
    assert source.read().fingerprint == read().fingerprint
    assert DataSource.make("phantom", None, {"share": "0.1", "draw": "2"}).settings.items() >= {
        ("share", 0.1),
        ("draw", 2),
    }


@pytest.mark.parametrize("name", registry("datasets").names())
def test_every_data_set_has_these_settings(name: str) -> None:
    settings = settings_of(registry("datasets").load_preset(name)[0])
    assert {s.name for s in settings} >= {"share", "draw"}
    assert [s.name for s in settings[-2:]] == ["share", "draw"]


def test_one_of_several_is_cut(tmp_path: Path) -> None:
    rows = [(f"{k}", "train" if k % 2 else "test", f"{k % 3 // 2}") for k in range(200)]
    data = read("csv,phantom", {"csv": table(tmp_path, rows)}, **{"csv.share": 0.2})
    own = data.columns["dataset"] == "csv"
    assert 5 < (data.split[own] == "train").sum() < 50
    assert (data.split[own] == "test").sum() == 100
    assert (~own).sum() == 600
    assert data.share == 0.2
    # The same patients as without the other data set.
    alone = read("csv", tmp_path, share=0.2)
    assert data.image_id[own].tolist() == [f"csv/{name}" for name in alone.image_id.tolist()]


def test_a_share_without_a_positive_is_refused(tmp_path: Path) -> None:
    rows = [(f"{k}", "train", f"{int(k == 0)}") for k in range(50)] + [("t", "test", "1")]
    assert not kept_share(["0"], 0.1)[0]
    with pytest.raises(UserError) as caught:
        read("csv", table(tmp_path, rows), share=0.1)
    assert str(caught.value).startswith("data set csv, setting share: 0.1 keeps ")
    assert "of 50 training patients and no positive label" in str(caught.value)


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("data.share=0", "'0' is not number > 0 and <= 1"),
        ("data.share=1.01", "'1.01' is not number > 0 and <= 1"),
        ("data.share=nan", "'nan' is not number"),
        ("data.share=1e-9", "keeps 0 of "),
        ("data.draw=-1", "'-1' is not whole number >= 0"),
        ("data.draw=0.5", "'0.5' is not whole number"),
        ("data.shares=0.1", "did you mean share"),
    ],
)
def test_wrong_shares(setting: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    given = ["--set", "data.images=200", "--set", setting, "--out", str(out)]
    assert main(["run", "--strategy", "ridge", *given]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line
    assert not out.exists()


def test_a_scenario_that_splits_anew_has_no_share() -> None:
    with pytest.raises(UserError, match="setting share: patients are split anew"):
        read(share=0.1).with_split(np.full(1, "train"))


def test_a_copy_is_checked_at_its_share(capsys: pytest.CaptureFixture[str]) -> None:
    given = ["--set", "images=200", "--set", "share=0.5", "--decode", "1"]
    main(["data", "check", "phantom", *given, "--json"])
    found = json.loads(capsys.readouterr().out)
    assert found["settings"]["share"] == 0.5
    assert sum(found["dropped"].values()) == 200 - found["images"]


OWN = '''
from dataclasses import dataclass
from typing import ClassVar
from retune.data.readers.base import Reader
from retune.data.readers.phantom import Phantom

@dataclass
class Mine(Reader):
    """Mine."""

    name: ClassVar[str] = "mine"
    needs_root: ClassVar[bool] = False
    source: ClassVar[str] = "me"
    licence: ClassVar[str] = "mine"
    labels: ClassVar[tuple[str, ...]] = Phantom.labels

    draw: str = "charcoal"

    def read(self, root):
        return Phantom(images=100).read(root)
'''


def test_a_reader_of_ones_own_is_cut_and_keeps_its_own_settings(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(OWN)
    source = DataSource.make(str(file), None, {"share": 0.5, "draw": "ink"})
    assert source.settings == {"share": 0.5, "draw": "ink"}
    assert 0 < len(source.read()) < 100
    assert [s.name for s in settings_of(type(source.readers[0]))] == ["draw", "share"]

"""A patient written in two ways is one patient, in every data set."""

from __future__ import annotations

import unicodedata
from itertools import combinations, product
from pathlib import Path

import numpy as np
import pytest

from retune.data.dataset import Dataset, split_by_patient
from retune.data.images import FileImages
from retune.data.patients import normal_form, one_spelling
from retune.data.readers.csv import Csv
from retune.data.several import combine
from retune.errors import BadTable

ONE = [
    ("7", "7.0"),
    ("7", "007"),
    ("P7", "p7"),
    ("P7", "P007"),
    ("José", unicodedata.normalize("NFD", "José")),
    ("P7", "\u200bP7"),
    ("P7", "P7\ufeff"),
    ("P7", "\u202aP7\u202c"),
    ("P7", "P\u00ad7"),
    ("P7", "\u00a0P7 "),
    ("A B", "A\u00a0 B"),
    ("17", "\uff11\uff17"),
    ("17", "\u0661\u0667"),
    ("A-1", "A\u20131"),
    ("0", "000"),
]
TWO = [
    ("7", "70"), ("7", "7.5"), ("P7", "Q7"), ("A0B1", "AB1"), ("1.2.840.0", "1.2.840"), ("a b", "ab"), ("-7", "7"),
]  # fmt: skip


def table(patients: list[str], splits: list[str]) -> Dataset:
    names = np.array([f"{k}.png" for k in range(len(patients))])
    return Dataset(
        name="toy",
        labels=("Mass",),
        image_id=names,
        patient_id=np.array(patients),
        split=np.array(splits),
        targets=np.zeros((len(names), 1), np.float32),
        images=FileImages(names),
    )


@pytest.mark.parametrize(("one", "other"), ONE)
def test_two_spellings_in_two_splits_are_refused_with_both(one: str, other: str) -> None:
    with pytest.raises(BadTable) as caught:
        table([one, other], ["train", "test"])
    message = str(caught.value)
    assert "one patient, written in several ways" in message
    assert "in test" in message
    assert "in train" in message
    assert message.count(ascii(one)) or message.count(repr(one))
    assert message.count(ascii(other)) or message.count(repr(other))
    assert "\n" not in message


@pytest.mark.parametrize(("one", "other"), ONE)
def test_two_spellings_in_one_split_are_one_patient(one: str, other: str) -> None:
    data = table([one, other, "x"], ["train", "train", "test"])
    assert len(set(data.patient_id.tolist())) == 2
    (note,) = data.notes
    assert note.startswith("Patients written in several ways count as one each:")
    # A part of it says it once, and a hash puts both into one split.
    assert data.take(np.arange(2)).notes == data.notes
    assert len(set(split_by_patient([one, other]).tolist())) == 1


@pytest.mark.parametrize(("one", "other"), TWO)
def test_other_patients_stay_apart(one: str, other: str) -> None:
    data = table([one, other], ["train", "test"])
    assert data.patient_id.tolist() == [one, other]
    assert data.notes == ()


def test_spellings_that_are_right_stay_as_they_are() -> None:
    ids = np.array([f"patient{k:05d}" for k in range(2000)] + [f"{k:032x}" for k in range(2000)])
    same, several = one_spelling(ids)
    assert same is ids
    assert several == []
    assert normal_form("\u200b \ufeff") == ""


def test_the_shortest_spelling_stands_for_all() -> None:
    ids, several = one_spelling(np.array(["007", "7.0", "7", "8"]))
    assert ids.tolist() == ["7", "7", "7", "8"]
    assert several == [("7", "007", "7.0")]


def test_several_data_sets_say_it_by_name(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(
        "image,patient,split,Mass\n1.png,P1,train,1\n2.png,p1,train,0\n3.png,2,test,1\n"
    )
    joined = combine([Csv().read(tmp_path), table(["P1"], ["test"])])
    assert joined.patient_id.tolist() == ["csv/P1", "csv/P1", "csv/2", "toy/P1"]
    assert joined.choices["csv split"] == "by column 'split'"
    assert any("Chosen csv split" in line for line in joined.remarks)
    assert any(line.startswith("csv: Patients written in several ways") for line in joined.remarks)


def test_a_patient_of_nothing_that_can_be_seen_is_blank(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("image,patient,Mass\n1.png,\u200b,1\n2.png,2,0\n")
    with pytest.raises(BadTable, match="row 2, column 'patient': the patient is blank"):
        Csv().read(tmp_path)


def test_the_short_way_for_plain_identifiers_misses_none() -> None:
    """Every pair out of short identifiers is found, whatever stands beside it."""
    words = ["".join(letters) for n in (1, 2, 3) for letters in product("0a1A-", repeat=n)]
    for one, other in combinations(words, 2):
        meet = normal_form(one) == normal_form(other)
        assert bool(one_spelling(np.array([one, other]))[1]) == meet, (one, other)

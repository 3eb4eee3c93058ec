"""What is wrong with a bank."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from retune.backbones.load import load_backbone
from retune.errors import MissingFiles, UnknownName, UserError
from retune.prompts import load, names
from retune.prompts.lint import Complaint, lint
from retune.prompts.negation import fault, folded, likeness, malformed, others

SOURCE = {"kind": "hand-written", "model": "A. Person", "instruction": "Write.", "date": "2026-11-21"}


def bank(folder: Path, *rows: tuple[str, str, str]) -> Path:
    path = folder / "bank.jsonl"
    made = [dict(zip(("finding", "polarity", "text"), row, strict=True), source=SOURCE) for row in rows]
    path.write_text("".join(json.dumps(row) + "\n" for row in made))
    return path


def told(found: tuple[Complaint, ...]) -> list[tuple[int, str]]:
    return [(complaint.row, complaint.what) for complaint in found]


AFFIRMING = [
    ("Edema", "Pulmonary edema is present."),
    ("Edema", "No effusion, but pulmonary edema is present."),
    ("Edema", "Edema without effusion."),
    ("Edema", "Normal heart size with pulmonary edema."),
    ("Edema", "Mild oedema, not only at the bases."),
    ("Edema", "No significant change in the pulmonary edema."),
    ("Pneumonia", "Pneumonia cannot be excluded."),
    ("Pneumonia", "Right lower lobe bronchopneumonia, which has not resolved."),
    ("Cardiomegaly", "The heart is enlarged."),
    ("Cardiomegaly", "The transverse diameter of the heart is above normal limits."),
    ("COPD", "COPD"),
    ("Rib Notching", "There is rib-notching on both sides."),
]
DENYING = [
    ("Edema", "No edema."),
    ("Edema", "There is no pleural effusion, pneumothorax or pulmonary edema."),
    ("Edema", "Pulmonary edema has resolved."),
    ("Edema", "Edema isn’t seen."),
    ("Edema", "The lungs are well aerated, without signs of edema."),
    ("Edema", "The lungs are clear."),
    ("Pneumonia", "Negative for pneumonia"),
    ("Pneumonia", "Pneumonia has been ruled out."),
    ("Pneumonia", "Absence of pneumonia."),
    ("Pneumonia", "The lungs are free of pneumonia."),
    ("Cardiomegaly", "Heart size is within normal limits."),
    ("Cardiomegaly", "The heart is not enlarged."),
    ("Rib Notching", "The ribs are unremarkable, with no rib notching."),
]


@pytest.mark.parametrize(("finding", "text"), AFFIRMING)
def test_sentences_that_affirm(finding: str, text: str) -> None:
    assert fault(finding, "positive", text) is None
    assert fault(finding, "negative", text) == "does not negate"


@pytest.mark.parametrize(("finding", "text"), DENYING)
def test_sentences_that_deny(finding: str, text: str) -> None:
    assert fault(finding, "negative", text) is None
    assert fault(finding, "positive", text) == "negates"


@pytest.mark.parametrize(
    ("text", "positive", "negative"),
    [
        ("Normal chest radiograph.", True, False),
        ("No acute cardiopulmonary disease.", True, False),
        ("The lungs are clear.", True, False),
        ("Abnormal chest radiograph.", False, True),
        ("This is not a normal study.", False, True),
        ("The chest.", False, False),
    ],
)
def test_no_finding_is_the_other_way_round(text: str, positive: bool, negative: bool) -> None:
    assert (fault("No Finding", "positive", text) is None) == positive
    assert (fault("No Finding", "negative", text) is None) == negative


@pytest.mark.parametrize(
    ("finding", "text", "named"),
    [
        ("Edema", "Edema with pleural effusions.", ("Pleural Effusion",)),
        ("Edema", "No fracture, no pneumothorax.", ("Pneumothorax", "Fracture")),
        ("Edema", "An edematous, massive, tubular shape.", ()),
        ("Pneumonia", "Right lower lobe consolidation, compatible with pneumonia.", ()),
        ("Lung Tumor", "A spiculated mass.", ()),
        ("Viral Pneumonia", "Viral pneumonia with a nodule.", ("Nodule",)),
        ("Pleural Plaque", "No pleural plaques.", ()),
    ],
)
def test_other_findings_are_seen(finding: str, text: str, named: tuple[str, ...]) -> None:
    assert others(finding, text) == named


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("COPD", None),
        ("A 4 cm cavity; it is > 3 cm wide (new).", None),
        ("Œdème pulmonaire.", None),
        (" ", "is empty"),
        ("a" * 301, "is longer than 300 characters"),
        ("Edema.\u2028No edema.", "holds control characters or line breaks"),
        ("Edema\u202e", "holds control characters or line breaks"),
        ("**Edema**", "holds markup"),
        ("1. Edema", "holds markup"),
        ("- Edema", "holds markup"),
        ("{finding} is present", "holds markup"),
        ("1 2 3", "holds no word"),
    ],
)
def test_what_is_no_sentence(text: str, why: str | None) -> None:
    assert malformed(text) == why


def test_likeness_is_the_share_of_common_words() -> None:
    assert likeness("Edema in both lungs.", "both lungs, in EDEMA") == 1.0
    assert likeness("edema of the left lung", "edema of the right lung") == pytest.approx(4 / 6)
    assert folded("Mild  edema!") == folded("mild edema")


def test_every_kind_of_complaint_with_its_row(tmp_path: Path) -> None:
    path = bank(
        tmp_path,
        ("Edema", "positive", "Severe pulmonary edema is present in the left lung."),
        ("Edema", "positive", "Severe pulmonary edema is present in the left lung"),
        ("Edema", "positive", "Severe pulmonary edema is present in the right lung."),
        ("Edema", "positive", "No edema."),
        ("Edema", "negative", "The heart is large."),
        ("Mass", "positive", "A mass with edema."),
        ("Mass", "positive", "No edema."),
        ("Rib Notching", "negative", "No rib notching.\tNone."),
        ("Rib Notching", "positive", "Rib notching beside a mass."),
        ("Edema", "negative", "No rib notching."),
    )
    found = lint(path)
    assert {complaint.file for complaint in found} == {str(path)}
    assert [complaint.finding for complaint in found][:2] == ["Edema", "Edema"]
    assert all(complaint.hint for complaint in found)
    assert told(found) == [
        (2, "the same text as in row 1"),
        (3, "nearly the same text as in row 1"),
        (4, "the positive prompt negates"),
        (5, "the negative prompt does not negate"),
        (6, "the finding has no negative prompt"),
        (6, "names another finding: Edema"),
        (7, "the positive prompt negates"),
        (7, "names another finding: Edema"),
        (7, "the same text as in row 4, a positive prompt of Edema"),
        (8, "the text holds control characters or line breaks"),
        (9, "names another finding: Mass"),
        (10, "names another finding: Rib Notching"),
    ]


def test_the_very_same_row_twice_is_a_complaint_not_an_error(tmp_path: Path) -> None:
    row = ("Edema", "positive", "Pulmonary edema.")
    found = lint(bank(tmp_path, row, row, ("Edema", "negative", "No edema.")))
    assert told(found) == [(2, "the same text as in row 1")]


@pytest.mark.parametrize("name", names())
def test_the_packaged_banks(name: str) -> None:
    # A tension pneumothorax is told by the shift that it makes.
    known = [(184, "names another finding: Mediastinal Shift")] if name == "language-model" else []
    assert told(lint(name)) == known


def test_prompts_longer_than_the_text_tower(tmp_path: Path) -> None:
    from transformers import PreTrainedTokenizerFast

    backbone = load_backbone("phantom-clip")
    weights = Path(__file__).parents[2] / "retune/backbones/phantom_clip"
    tokenizer = PreTrainedTokenizerFast.from_pretrained(weights)
    prompts = load("language-model").prompts
    expected = [
        (row, n) for row, p in enumerate(prompts, 1) if (n := len(tokenizer(p.text)["input_ids"])) > 64
    ]
    found = [c for c in lint("language-model", backbone=backbone) if "word pieces" in c.what]
    assert expected
    assert [(c.row, c.what) for c in found] == [
        (row, f"has {n} word pieces, of which the text tower of phantom-clip reads 64") for row, n in expected
    ]


def test_a_prompt_that_just_fits_the_text_tower(tmp_path: Path) -> None:
    # Start and end take two of 64 places.
    path = bank(tmp_path, ("A B", "positive", "a " * 61 + "a"), ("A B", "negative", "no " + "a " * 61 + "a"))
    found = [c for c in lint(path, backbone=load_backbone("phantom-clip")) if "word pieces" in c.what]
    assert told(tuple(found)) == [(2, "has 65 word pieces, of which the text tower of phantom-clip reads 64")]


def test_a_backbone_that_counts_no_words_is_told(tmp_path: Path) -> None:
    class Mute:
        name = "mute"
        capabilities = frozenset({"features"})

    path: Any = bank(tmp_path, ("Edema", "positive", "Edema."))
    with pytest.raises(UserError, match="backbone mute: does not say"):
        lint(path, backbone=Mute())  # type: ignore[arg-type]


def test_what_is_no_bank_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(MissingFiles, match="no such prompt bank"):
        lint(tmp_path / "none.jsonl")
    with pytest.raises(UnknownName, match="did you mean chexzero"):
        lint("chexzer")
    path = tmp_path / "bad.jsonl"
    path.write_text("\n")
    with pytest.raises(UserError, match="holds no prompts"):
        lint(path)
    path.write_text('{"finding": "Edema"}\n')
    with pytest.raises(UserError, match=r"bad\.jsonl:1: the row lacks"):
        lint(path)

"""What the packaged prompts say."""

from __future__ import annotations

import itertools
import re

import pytest

from retune.data.findings import FINDINGS
from retune.prompts import Prompt, PromptBank, load, names

BANKS = {name: load(name) for name in names()}

NEGATION = re.compile(
    r"\b(no|not|nor|none|never|neither|without|absent|absence|lacks?|negative for|free of|clear of|removed"
    r"|resolved|cleared|ruled out|excluded)\b"
)
NORMAL = re.compile(r"\b(normal|normally|clear|sharp|sharply|intact|unremarkable|fully expanded|preserved)\b")

# How reports name each finding; sentences that deny one finding must not speak of another.
STEMS = {
    "Enlarged Cardiomediastinum": r"mediastin",
    "Cardiomegaly": r"cardiomegal|\bheart size|cardiac silhouette",
    "Lung Opacity": r"opaci",
    "Lung Lesion": r"lesion",
    "Edema": r"edema|congesti",
    "Consolidation": r"consolidat",
    "Pneumonia": r"pneumonia|infecti",
    "Atelectasis": r"atelecta|collapse",
    "Pneumothorax": r"pneumothora",
    "Pleural Effusion": r"effusion",
    "Pleural Other": r"plaque|adhesion|fibrothorax",
    "Fracture": r"fractur",
    "Support Devices": r"device|catheter|\btubes?\b|pacemaker",
    "Infiltration": r"infiltrat",
    "Mass": r"\bmass(es)?\b",
    "Nodule": r"nodul",
    "Emphysema": r"emphysem|hyperinflat",
    "Fibrosis": r"fibrosis|fibrotic",
    "Pleural Thickening": r"thicken",
    "Hernia": r"hernia",
    "Aortic Enlargement": r"aneurysm|\bectasia|\bectatic|aortic (enlargement|dilatation)",
    "Calcification": r"(?<!pleural )calcifications?\b",
    "Enlarged Pulmonary Artery": r"pulmonary (artery|arteries|arterial|trunk)",
    "Interstitial Lung Disease": r"interstitial lung disease|\bild\b|reticular",
    "Lung Cavity": r"\bcavit(y|ies|ation)",
    "Lung Cyst": r"\bcysts?\b|\bcystic|pneumatocele",
    "Mediastinal Shift": r"\bshift|displace(?!d fracture)|deviat",
    "COPD": r"\bcopd\b|obstructive|airflow",
    "Lung Tumor": r"tumor|cancer|carcinoma|malignan|neoplas",
    "Tuberculosis": r"tubercul|\btb\b",
}

# Findings of which one is told by the words of the other.
SHARED = (
    {"Cardiomegaly", "Enlarged Cardiomediastinum"},
    {"Mediastinal Shift", "Enlarged Cardiomediastinum"},
    {"COPD", "Emphysema"},
    {"Lung Tumor", "Lung Lesion"},
    {"Lung Tumor", "Mass"},
)


def denied(one: Prompt) -> bool:
    return NEGATION.search(one.text.lower()) is not None


def words(one: Prompt) -> list[str]:
    return re.findall(r"[\w-]+", one.text.lower())


@pytest.mark.parametrize(
    ("name", "count"), [("language-model", 10), ("chexzero", 1), ("biovil", 4), ("lay", 1)]
)
def test_every_finding_is_covered(name: str, count: int) -> None:
    bank = BANKS[name]
    assert bank.findings == FINDINGS
    bank.require(FINDINGS)
    assert {(len(bank.positive(f)), len(bank.negative(f))) for f in FINDINGS} == {(count, count)}


@pytest.mark.parametrize("name", BANKS)
def test_no_sentence_stands_twice(name: str) -> None:
    texts = [one.text.casefold().rstrip(".") for one in BANKS[name].prompts]
    assert len(set(texts)) == len(texts)


def test_sentences_of_one_finding_are_not_alike() -> None:
    bank = BANKS["language-model"]
    for finding, polarity in itertools.product(FINDINGS, ("positive", "negative")):
        group = [one for one in bank.prompts if (one.finding, one.polarity) == (finding, polarity)]
        for one, other in itertools.combinations(group, 2):
            a, b = set(words(one)), set(words(other))
            assert len(a & b) / len(a | b) < 0.7, (one.text, other.text)


@pytest.mark.parametrize("name", BANKS)
def test_every_row_says_where_it_comes_from(name: str) -> None:
    kind = "language-model" if name == "language-model" else "hand-written"
    for one in BANKS[name].prompts:
        assert one.source.kind == kind
        assert one.source.model
        assert one.source.date >= "2026-11-21"
        assert len(one.source.instruction.split()) > 10
    if name == "language-model":
        assert len({one.source.instruction for one in BANKS[name].prompts}) == 2 * len(FINDINGS)


@pytest.mark.parametrize("name", BANKS)
def test_sentences_are_short_and_well_formed(name: str) -> None:
    for one in BANKS[name].prompts:
        assert len(one.text.split()) <= 25, one.text
        assert one.text.isascii(), one.text
        assert not re.search(r"  |[{}]|\.\.|___", one.text), one.text


@pytest.mark.parametrize("name", BANKS)
def test_positives_affirm_and_negatives_deny(name: str) -> None:
    for one in BANKS[name].prompts:
        text = one.text.lower()
        if one.finding != "No Finding":
            says_so = denied(one) or NORMAL.search(text) is not None
            assert says_so if one.polarity == "negative" else not denied(one), one.text
        elif one.polarity == "positive":
            # told by the normal state, because "no ..." is what denies the other findings
            assert NORMAL.search(text), one.text
            assert not denied(one), one.text
        else:
            assert "abnormal" in text or "not a normal" in text, one.text


def test_every_stem_is_found_in_sentences_of_its_finding() -> None:
    # Else the next test would see nothing.
    assert {*STEMS, "No Finding"} == set(FINDINGS)
    for finding, stem in STEMS.items():
        texts = [*BANKS["language-model"].positive(finding), *BANKS["language-model"].negative(finding)]
        assert sum(re.search(stem, text.lower()) is not None for text in texts) >= 4, finding


@pytest.mark.parametrize("name", BANKS)
def test_sentences_that_deny_a_finding_name_no_other(name: str) -> None:
    for one in BANKS[name].prompts:
        for finding, stem in STEMS.items():
            if one.polarity == "negative" and finding != one.finding and one.finding in FINDINGS:
                shared = {finding, one.finding} in SHARED
                assert shared or not re.search(stem, one.text.lower()), (finding, one)


def test_sides_and_lobes_do_not_contradict() -> None:
    for one in BANKS["language-model"].prompts:
        text = one.text.lower()
        assert not ("left" in text and re.search(r"middle lobe|minor fissure|paratracheal", text)), text
        assert not ("right" in text and "lingula" in text), text
        both = "left" in text and "right" in text
        assert not both or re.search(r"shift toward the right|in the right lung than in the left", text), text


def test_the_templates_are_those_of_their_papers() -> None:
    chexzero: PromptBank = BANKS["chexzero"]
    assert chexzero.positive("Pleural Effusion") == ("pleural effusion",)
    assert chexzero.negative("Pleural Effusion") == ("no pleural effusion",)
    assert chexzero.positive("No Finding") == ("normal chest radiograph",)
    assert chexzero.negative("No Finding") == ("abnormal chest radiograph",)
    assert "Findings are consistent with pneumonia." in BANKS["biovil"].positive("Pneumonia")
    assert "No evidence of pneumonia." in BANKS["biovil"].negative("Pneumonia")

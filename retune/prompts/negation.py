"""What a sentence says of a finding: affirms or denies it, names another one, is a sentence at all.

The one judge of prompts that a language model writes and of those that a person does. It reads English by rules in the
manner of NegEx (Chapman et al., 2001): a negation reaches forward to the end of its clause, some reach back.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from functools import cache
from typing import Final

from retune.data.findings import FINDINGS
from retune.prompts.bank import Polarity

LONGEST: Final = 300
"""Characters of the longest sentence that is still a prompt."""
ALIKE: Final = 0.8
"""Share of common words from which two sentences are near-duplicates."""

STEMS: Final = {
    "Enlarged Cardiomediastinum": r"mediastinal (?:widening|enlargement)"
    r"|(?:wide\w*|enlarged|broad\w*) (?:\w+ )?\w*mediastin\w+",
    "Cardiomegaly": r"cardiomegaly|cardiac enlargement|enlarge\w* (?:of the )?(?:heart|cardiac)"
    r"|heart (?:is |size )?enlarge\w*",
    "Lung Opacity": r"opacit\w+|opacification",
    "Lung Lesion": r"lesions?",
    "Edema": r"o?edema|vascular congestion|fluid overload",
    "Consolidation": r"consolidat\w+",
    "Pneumonia": r"\w*pneumonias?",
    "Atelectasis": r"atelecta\w+",
    "Pneumothorax": r"\w*pneumothora\w+",
    "Pleural Effusion": r"effusions?",
    "Pleural Other": r"pleural plaques?|fibrothorax|pleural (?:adhesions?|scarring)",
    "Fracture": r"fractur\w+",
    "Support Devices": r"(?:support|implanted|medical) devices?|catheters?|\w*tracheal tubes?|pacemakers?",
    "Infiltration": r"infiltrat\w+",
    "Mass": r"mass(?:es)?",
    "Nodule": r"nodul\w+",
    "Emphysema": r"emphysem\w+",
    "Fibrosis": r"fibrosis|fibrotic",
    "Pleural Thickening": r"pleural thickening|thickened pleura|thickening of the pleura",
    "Hernia": r"hernia\w*",
    "Aortic Enlargement": r"aneurysm\w*|aortic (?:enlargement|ectasia|dilatation)"
    r"|(?:enlarged|ectatic|dilated) (?:\w+ )?aorta",
    "Calcification": r"(?<!pleural )calcifications?",
    "Enlarged Pulmonary Artery": r"(?:enlarge\w*|dilat\w*) (?:of the )?(?:\w+ )?pulmonary (?:artery|arteries|trunk)",
    "Interstitial Lung Disease": r"interstitial (?:lung )?disease|ild",
    "Lung Cavity": r"cavit(?:y|ies|ation)",
    "Lung Cyst": r"cysts?|cystic lung disease|pneumatoceles?",
    "Mediastinal Shift": r"mediastinal (?:shift|displacement)|(?:shift|displacement) of the mediastin\w+",
    "COPD": r"copd|chronic obstructive",
    "Lung Tumor": r"tumou?rs?|carcinomas?|cancers?|neoplasms?|malignan\w+",
    "Tuberculosis": r"tubercul\w+|tb",
}
"""How reports name each finding, as whole words in lower case."""

KIN: Final = (
    {"Enlarged Cardiomediastinum", "Cardiomegaly"},
    {"Enlarged Cardiomediastinum", "Mediastinal Shift"},
    {"Enlarged Cardiomediastinum", "Aortic Enlargement"},
    {"COPD", "Emphysema"},
    {"Lung Tumor", "Lung Lesion", "Mass", "Nodule"},
    {"Lung Lesion", "Lung Cavity", "Lung Cyst"},
    {"Lung Opacity", "Consolidation", "Infiltration", "Atelectasis", "Pneumonia", "Edema"},
    {"Fibrosis", "Interstitial Lung Disease"},
    {"Pleural Other", "Pleural Thickening"},
)
"""Findings told in each other's words: a sentence about one may name another of the same set."""

_DISEASE: Final = r"abnormal\w*|patholog\w*|disease"
_NOT: Final = r"(?:is|are|was|were|has|have|had|does|do|did|could|can) not|cannot|\w+n't"
_BEFORE: Final = (
    r"no|not|nor|none|never|neither|cannot|\w+n't|without|absence of|absent|lack\w*|negative for"
    r"|free (?:of|from)|clear of|den(?:y|ies|ied)|exclud(?:e|es|ed|ing)|rul(?:e|es|ed|ing) out"
    r"|resolved|resolution of|removed|removal of"
)
_AFTER: Final = rf"{_NOT}|not|never|absent|removed|resolved|cleared|ruled out|excluded|unlikely|nowhere"
_NORMAL: Final = (
    r"(?<!above )(?<!than )(?<!below )normal(?:ly)?|clear|sharp(?:ly)?|intact|unremarkable"
    r"|fully expanded|preserved"
)
# Words of negation that deny nothing.
_PSEUDO: Final = (
    r"not only|(?:no|without) (?:(?:significant|interval|appreciable|relevant) )*(?:change|increase|decrease|improvement)"
    r"|(?:cannot|can not|can't|not|never) (?:be )?(?:completely |entirely |fully |yet )*"
    r"(?:excluded|ruled out|resolved|cleared)"
    r"|(?:cannot|can not|can't) (?:completely |entirely |fully )*(?:exclude|rule out)"
)
_CLAUSES: Final = re.compile(r"[.;!?](?:\s|$)|\b(?:but|however|although|though|yet|except|with)\b")
_MARKUP: Final = re.compile(r"</?[a-zA-Z!]|[{}`]|\*\*|__|\]\(|https?://|^(?:[-*•#]|\d+[.)])\s")


def fault(finding: str, polarity: Polarity, text: str) -> str | None:
    """Why a sentence does not say what its polarity promises; None where it does.

    A positive sentence affirms the finding, or at least denies nothing; a negative one denies it or
    describes the normal state. *No Finding* is the other way round: it is there where things are normal.

    Args:
        finding: What the sentence is about, canonical or not.
        polarity: What it promises to say.
        text: The sentence.
    """
    whole = _plain(text)
    denies = _search(_BEFORE, whole) or _search(_AFTER, whole)
    normal = denies or _search(_NORMAL, whole)
    if finding == "No Finding":
        ill = any(_affirmed(_DISEASE, clause) for clause in _CLAUSES.split(whole))
        if polarity == "positive":
            return None if normal and not ill else "does not say that the study is normal"
        return None if ill else "does not say that the study is abnormal"
    stem = _stem(finding)
    mentions = [_affirmed(stem, clause) for clause in _CLAUSES.split(whole) if _search(stem, clause)]
    if polarity == "positive":
        wrong = not any(mentions) if mentions else normal
        return "negates" if wrong else None
    wrong = any(mentions) if mentions else not normal
    return "does not negate" if wrong else None


def others(finding: str, text: str, known: Iterable[str] = FINDINGS) -> tuple[str, ...]:
    """Other findings that a sentence names, in the order of ``known``.

    Args:
        finding: What the sentence is about.
        text: The sentence.
        known: The findings to look for; those told in the words of ``finding`` itself do not count.
    """
    whole, own = _plain(text), _plain(finding)
    kin: set[str] = set().union(*(group for group in KIN if finding in group), {finding, "No Finding"})
    return tuple(
        name
        for name in known
        if name not in kin and _search(_stem(name), whole) and not _search(_stem(name), own)
    )


def malformed(text: str) -> str | None:
    """Why a string is not one plain sentence; None where it is."""
    if not text.strip():
        return "is empty"
    if len(text) > LONGEST:
        return f"is longer than {LONGEST} characters"
    if any(unicodedata.category(c)[0] == "C" or c in "\u2028\u2029" for c in text):
        return "holds control characters or line breaks"
    if _MARKUP.search(text):
        return "holds markup"
    return None if re.search(r"[^\W\d_]{2}", text) else "holds no word"


def folded(text: str) -> str:
    """A sentence without case, punctuation and spacing, by which duplicates are known."""
    return " ".join(re.findall(r"\w+", unicodedata.normalize("NFKC", text).casefold()))


def likeness(text: str, other: str) -> float:
    """Share of the words of two sentences that both have, 0 to 1 (Jaccard)."""
    a, b = set(folded(text).split()), set(folded(other).split())
    return len(a & b) / len(a | b) if a | b else 1.0


def _plain(text: str) -> str:
    whole = " ".join(text.casefold().replace("’", "'").split())
    whole = re.sub(r"\bnot (?:an? |within |entirely )*normal\b", "abnormal", whole)
    return re.sub(rf"\b(?:{_PSEUDO})\b", " ", whole)


def _affirmed(stem: str, clause: str) -> bool:
    """Whether a clause has a mention that nothing before or after it denies."""
    if _search(_NORMAL, clause) and stem != _DISEASE:
        return False
    return any(
        not _search(_BEFORE, clause[: found.start()]) and not _search(_AFTER, clause[found.end() :])
        for found in _compiled(stem).finditer(clause)
    )


def _stem(finding: str) -> str:
    return (
        STEMS.get(finding) or r"[\s_-]+".join(map(re.escape, re.split(r"[\s_-]+", finding.casefold()))) + "s?"
    )


def _search(pattern: str, text: str) -> bool:
    return _compiled(pattern).search(text) is not None


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(rf"(?<!\w)(?:{pattern})(?!\w)")

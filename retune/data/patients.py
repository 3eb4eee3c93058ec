"""One patient written in two ways: the form in which identifiers are compared, and one spelling for each."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

_NUMBERED = re.compile(r"(\D*?)0*([0-9]+)(?:[.,]0+)?")
_INVISIBLE = re.compile("[\ufe00-\ufe0f\u034f\u115f\u1160\u3164\u180e]")

_NOT_PLAIN = re.compile(r"[^A-Za-z0-9_/\n-]")
_ZEROS = re.compile(r"^[^0-9\n]*0[0-9]", re.MULTILINE)


@lru_cache(maxsize=2**18)
def normal_form(identifier: str) -> str:
    """What stays of an identifier when everything that only its writing changes is taken away.

    Taken away are case, composition of letters, width and script of digits, invisible characters, kinds of
    blank and of dash, blanks around it; and of a number (after letters, where there are any) leading zeros and
    an empty fraction: ``" P007"`` and ``"p7"`` are one, ``7.0`` and ``7`` too.
    """
    form = identifier
    if not form.isascii():
        form = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", form).casefold())
        form = "".join(map(_plain, _INVISIBLE.sub("", form)))
    form = " ".join(form.casefold().split())
    form = form if form.isprintable() else "".join(c for c in form if c.isprintable())
    numbered = _NUMBERED.fullmatch(form)
    return f"{numbered[1]}{numbered[2]}" if numbered else form


def _plain(character: str) -> str:
    kind = unicodedata.category(character)
    if kind == "Cf":
        return ""
    if kind == "Nd":
        return str(unicodedata.digit(character))
    return "-" if kind == "Pd" or character == "\u2212" else character


def _cannot_meet(spellings: list[str]) -> bool:
    """Whether all are so plain that no two of them can have one form; comparing forms takes a second in 100,000."""
    text = "\n".join(spellings)
    if _NOT_PLAIN.search(text) or text not in (text.lower(), text.upper()):
        return False
    if text.count("\n") != len(spellings) - 1:
        return False
    # What is left is zeros before a number, and these make it longer.
    return len(set(map(len, spellings))) == 1 or _ZEROS.search(text) is None


def shown(*spellings: str) -> list[str]:
    """Spellings so that a reader sees how they differ: what cannot be seen or looks alike is spelt out."""
    alike = len({unicodedata.normalize("NFC", spelling) for spelling in spellings}) < len(set(spellings))
    return [ascii(spelling) if alike else repr(spelling) for spelling in spellings]


def one_spelling(patients: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], list[tuple[str, ...]]]:
    """Write each patient in one way.

    Args:
        patients: Identifiers, shape (N,).

    Returns:
        The identifiers, of those that differ in form only the shortest for all (the first in the alphabet of
        several); and the spellings of each patient that had several, the one taken first. Where there
        are none, the identifiers are the array given.
    """
    if patients.dtype.kind in "biuf":
        return patients, []
    words = patients if patients.dtype.kind == "U" else patients.astype(str)
    unique, inverse = np.unique(words, return_inverse=True)
    if _cannot_meet(unique.tolist()):
        return patients, []
    by_form: dict[str, list[str]] = {}
    for spelling in unique.tolist():
        by_form.setdefault(normal_form(spelling), []).append(spelling)
    if len(by_form) == len(unique):
        return patients, []
    taken: dict[str, str] = {}
    several: list[tuple[str, ...]] = []
    for spellings in by_form.values():
        if len(spellings) > 1:
            spellings.sort(key=lambda spelling: (len(spelling), spelling))
            several.append(tuple(spellings))
            taken.update(dict.fromkeys(spellings, spellings[0]))
    chosen = np.array([taken.get(spelling, spelling) for spelling in unique.tolist()])
    return chosen[inverse], several


def placed(patients: npt.NDArray[Any], salt: str) -> npt.NDArray[np.float64]:
    """A place from 0 to 1 for each patient, by a hash: as good as drawn, and the same whoever else is there.

    Args:
        patients: Identifiers, shape (N,); a patient written in several ways is one patient.
        salt: Changes the places.
    """
    unique, inverse = np.unique(one_spelling(patients)[0].astype(str), return_inverse=True)
    digests = [hashlib.sha256(f"{salt}\0{patient}".encode()).digest()[:8] for patient in unique.tolist()]
    return (np.array([int.from_bytes(d, "big") for d in digests], dtype=np.float64) / 2.0**64)[inverse]

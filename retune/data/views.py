"""Projections of a chest radiograph, spelt alike over data sets, and the filter on them."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from retune.data.dataset import Array

Views = Literal["frontal", "PA", "AP", "lateral", "all"]
"""Which projections to keep; frontal is PA, AP and frontal ones of which no more is known."""
KEPT: Final[dict[str, tuple[str, ...]]] = {
    "frontal": ("PA", "AP", "frontal"),
    "PA": ("PA",),
    "AP": ("AP",),
    "lateral": ("lateral",),
}
"""The values of a data set's column ``view`` that each choice keeps.

A reader spells projections ``PA``, ``AP``, ``frontal`` (PA or AP, not said which), ``lateral``,
``other`` (oblique, costal, excluded by the publisher) and ``""`` where the table does not say.
"""


SPELLINGS: Final[dict[str, tuple[str, ...]]] = {
    "PA": ("pa", "posteroanterior", "posterioranterior", "posteriortoanterior"),
    "AP": ("ap", "anteroposterior", "anteriorposterior", "anteriortoposterior"),
    "frontal": ("frontal", "front", "f"),
    "lateral": (
        *("lateral", "lat", "l", "ll", "rl", "lateralleft", "lateralright", "leftlateral", "rightlateral"),
        *("llat", "rlat", "latl", "latr", "leftlat", "rightlat", "latleft", "latright", "profile", "profil"),
        "side",
    ),
    "other": ("other", "costal", "exclude"),
    "": ("", "unk", "unknown", "nan", "none", "null", "na", "notavailable", "unspecified", "notspecified"),
}
"""The spellings of each, in small letters and without what stands between these."""
BESIDE: Final = frozenset(
    (
        *("supine", "erect", "semi", "semierect", "upright", "semiupright", "sitting", "standing", "seated"),
        *("lying", "recumbent", "horizontal", "vertical", "portable", "mobile", "bedside", "bed", "chest"),
        *("thorax", "cxr", "view", "projection", "position", "inspiration", "expiration"),
        *("xtable", "cross", "table", "crosstable", "xray", "x", "ray", "rx", "torax", "radiograph", "icu"),
        *("trauma", "ped", "pediatric", "paediatric", "erecto", "stehend", "liegend"),
    )
)
"""Words that say how the patient lay, stood or breathed, and leave the projection what it is."""
OBLIQUE: Final = frozenset(
    (
        *("axial", "lordotic", "apical", "oblique", "lao", "rao", "lpo", "rpo", "llo", "rlo"),
        *("lld", "rld", "decub"),
        *("decubitus", "swimmers", "swimmer", "tangential", "abdomen"),
    )
)
"""Words that make any projection another one: in MIMIC-CXR ``AP AXIAL``, ``PA LLD``, ``SWIMMERS``."""
_VIEW_OF: Final = {spelling: view for view, spellings in SPELLINGS.items() for spelling in spellings}


@lru_cache(maxsize=4096)
def view_of(word: str) -> str | None:
    """A projection as we spell it, from any way in which tables do; None for a word that is not understood.

    Args:
        word: ``"PA"``, ``"AP semi erect"``, ``"POSTERO_ANTERIOR"``, ``"Lateral Left"`` ...
    """
    plain = unicodedata.normalize("NFKC", word).casefold()
    words = re.findall(r"[^\W_]+", re.sub(r"(?<=\w)\.(?=\w)", "", plain))
    if OBLIQUE.intersection(words):
        return "other"
    rest = [part for part in words if part not in BESIDE and not part.isdigit()]
    view = _VIEW_OF.get("".join(rest)) if rest or not words else None
    if view is None and "frontal" in rest:
        view = _VIEW_OF.get("".join(part for part in rest if part != "frontal"))
        return view if view in KEPT["frontal"] else None
    return view


def read_views(words: Array) -> tuple[Array, tuple[str, ...]]:
    """A column of projections as we spell them, and a note that names those not understood.

    Args:
        words: As the table has them, shape (N,).

    Returns:
        Text of shape (N,), a word not understood counting as ``other``; and a note, or none.
    """
    unique, which, counts = np.unique(words.astype(str), return_inverse=True, return_counts=True)
    found = [view_of(word) for word in unique.tolist()]
    strange = [
        (-int(count), word)
        for word, count, view in zip(unique.tolist(), counts, found, strict=True)
        if view is None
    ]
    views = np.array(["other" if view is None else view for view in found], dtype=str)[which]
    if not strange:
        return views, ()
    told = ", ".join(f"'{word}' ({-count:,})" for count, word in sorted(strange)[:10])
    more = f" and {len(strange) - 10} more" if len(strange) > 10 else ""
    total = -sum(count for count, _ in strange)
    return views, (
        f"Views not understood, so that {total:,} {'image counts' if total == 1 else 'images count'} as neither "
        f"frontal nor lateral: {told}{more}; write PA, AP, frontal or lateral, or keep them by views=all",
    )


def in_views(view: Array, views: Views) -> npt.NDArray[np.bool_]:
    """Which images a choice of views keeps; (N,) to bool (N,).

    Args:
        view: The data set's column ``view``, in any spelling that :func:`view_of` understands.
        views: The choice.
    """
    if views == "all":
        return np.ones(len(view), dtype=bool)
    view, _ = read_views(view)
    return np.isin(view, KEPT[views])

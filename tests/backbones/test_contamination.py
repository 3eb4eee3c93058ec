"""A backbone that saw the data is marked so."""

from __future__ import annotations

import pytest

from retune.backbones.base import BackboneCard
from retune.backbones.contamination import contamination
from retune.errors import UserError


def card(pretraining: tuple[str, ...], may_include: tuple[str, ...] = ()) -> BackboneCard:
    return BackboneCard("here", "none", pretraining, 8, 2, may_include=may_include)


@pytest.mark.parametrize(
    ("pretraining", "may_include", "origins", "synthetic", "verdict"),
    [
        (("mimic-cxr", "chexpert"), (), ("chexpert",), False, "yes"),
        (("mimic-cxr",), (), ("chexpert",), False, "no"),
        (("mimic-cxr",), (), ("nih", "mimic-cxr"), False, "yes"),
        (("nih",), (), ("chestmnist", "nih"), False, "yes"),
        (("unknown",), (), ("csv",), False, "possibly"),
        (("none",), (), ("csv",), False, "no"),
        (("unknown",), (), ("phantom",), True, "no"),
        (("PMC-15M",), ("nih",), ("nih",), False, "possibly"),
        (("PMC-15M",), ("nih",), ("padchest",), False, "no"),
        (("phantom (synthetic; other patients)",), (), ("phantom",), True, "no"),
    ],
)
def test_verdict(
    pretraining: tuple[str, ...],
    may_include: tuple[str, ...],
    origins: tuple[str, ...],
    synthetic: bool,
    verdict: str,
) -> None:
    assert contamination(card(pretraining, may_include), origins, synthetic=synthetic) == verdict


@pytest.mark.parametrize("said", [(), "nih", ["nih"]])
def test_a_card_that_does_not_say_is_refused(said: object) -> None:
    with pytest.raises(UserError, match=r'write \("none",\) where nothing was seen'):
        BackboneCard("here", "none", said, 8, 2)  # type: ignore[arg-type]

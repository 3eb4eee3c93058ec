"""A backbone that saw the data is marked so."""

from __future__ import annotations

import pytest

from retune.backbones.base import BackboneCard
from retune.backbones.contamination import contamination


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

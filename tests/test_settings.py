"""Settings: typed fields, read from text, refused in one line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import pytest

from retune.errors import BadSetting, UnknownName
from retune.settings import Count, Positive, Share, make, parse_assignments, settings_of, values_of


@dataclass
class Method:
    """A method.

    Args:
        lr: Learning rate
            of the optimiser.
        steps: How many.
        kind: Which.
        flag: On or off.
        share: Part.
        cap: A limit, or none.
        sites: Names.
    """

    lr: Positive = 1e-3
    steps: Count = 5
    kind: Literal["dense", "mlp"] = "mlp"
    flag: bool = False
    share: Share = 0.1
    cap: int | None = None
    sites: tuple[str, ...] = ("A",)


def test_text_is_read_as_the_type_of_the_field() -> None:
    given = {"lr": "1e-2", "steps": "7", "kind": "dense", "flag": "true", "cap": "3", "sites": '["B", "C"]'}
    assert make(Method, given, owner="m") == Method(0.01, 7, "dense", True, 0.1, 3, ("B", "C"))
    assert make(Method, {"cap": "none"}, owner="m").cap is None
    assert make(Method, {"lr": 1, "flag": False}, owner="m") == Method(lr=1.0)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"lr": "fast"}, ["m, setting lr", "'fast' is not number > 0"]),
        ({"lr": "-1"}, ["greater than 0"]),
        ({"lr": "nan"}, ["setting lr"]),
        ({"lr": "inf"}, ["setting lr"]),
        ({"lr": True}, ["setting lr"]),
        ({"steps": "2.5"}, ["whole number >= 1"]),
        ({"steps": "0"}, ["setting steps"]),
        ({"kind": "mlpp"}, ["dense | mlp"]),
        ({"flag": "maybe"}, ["true | false"]),
        ({"share": "1"}, ["setting share"]),
    ],
)
def test_a_wrong_value_is_one_line(given: dict[str, object], words: list[str]) -> None:
    with pytest.raises(BadSetting) as caught:
        make(Method, given, owner="m")
    assert "\n" not in str(caught.value)
    assert all(word in str(caught.value) for word in words)


def test_an_unknown_name_offers_the_nearest() -> None:
    with pytest.raises(UnknownName, match="did you mean steps"):
        make(Method, {"step": "3"}, owner="m")


def test_settings_say_name_type_default_and_meaning() -> None:
    found = {s.name: s for s in settings_of(Method)}
    assert (found["lr"].type, found["lr"].default, found["lr"].doc) == (
        "number > 0",
        1e-3,
        "Learning rate of the optimiser.",
    )
    assert found["kind"].type == "dense | mlp"
    assert found["share"].type == "number >= 0 and < 1"
    assert found["cap"].type == "whole number | none"
    assert values_of(Method(lr=2.0))["lr"] == 2.0


def test_assignments() -> None:
    assert parse_assignments(["a=1", "b=x=y", "a = 2"]) == {"a": "2", "b": "x=y"}
    for bad in ("lr", "=3"):
        with pytest.raises(BadSetting, match="key=value"):
            parse_assignments([bad])

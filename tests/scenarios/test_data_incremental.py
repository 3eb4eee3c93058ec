"""Data-incremental streams by data set, site and view: order, observed labels, patients seen twice."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from retune import Dataset, Stream
from retune.data.several import combine
from retune.errors import BadSetting
from retune.plugins import registry
from retune.settings import make


class NoImages:
    """Scenarios never look at a picture."""


def table(name: str = "one", labels: tuple[str, ...] = ("Edema", "Mass"), **changes: Any) -> Dataset:
    """Six training patients at two sites and two test patients; the sixth is at both sites."""
    sites = ["south", "north", "south", "north", "south", "south", "north", "north", "south"]
    fields: dict[str, Any] = {
        "name": name,
        "labels": labels,
        "image_id": np.array([f"i{k}" for k in range(9)]),
        "patient_id": np.array(["p0", "p1", "p2", "p3", "p4", "p5", "p5", "p6", "p7"]),
        "split": np.array(["train"] * 7 + ["test"] * 2),
        "targets": np.array([[k % 2, k % 3 == 0] for k in range(9)], np.float32),
        "images": NoImages(),
        "columns": {"site": np.array(sites)},
    }
    return Dataset(**{**fields, **changes})


def cut(dataset: Dataset, seed: int = 0, **settings: object) -> Stream:
    return make(registry("scenarios").load("data-incremental"), settings, owner="").stream(dataset, seed)


def shown(made: Stream) -> list[tuple[str, ...]]:
    return [tuple(made.labels[c] for c in e.observed) for e in made.experiences]


@pytest.mark.parametrize("by", ["auto", "dataset"])
@pytest.mark.parametrize("order", [("one", "two", "three"), ("two", "three", "one")])
def test_one_experience_for_each_data_set_in_the_order_named(by: str, order: tuple[str, ...]) -> None:
    parts = {
        "one": table("one"),
        "two": table("two", ("Mass", "Hernia")),
        "three": table("three", ("Hernia", "Fracture")),
    }
    made = cut(combine([parts[name] for name in order]), by=by)
    names = made.dataset.columns["dataset"]
    assert [set(names[e.rows]) for e in made.experiences] == [{name} for name in order]
    assert [len(e) for e in made.experiences] == [7, 7, 7]
    assert shown(made) == [tuple(c for c in made.labels if c in parts[name].labels) for name in order]
    assert len(made.test) == 6


def test_auto_is_random_for_one_data_set_and_where_asked_for() -> None:
    both = combine([table("one"), table("two")])
    for made in (cut(table(), steps=3), cut(both, steps=3, by="random")):
        assert len(made) == 3
        assert shown(made) == [("Edema", "Mass")] * 3
    first = both.take(np.arange(9))
    assert cut(first, steps=2).fingerprint == cut(first, steps=2, by="random").fingerprint
    assert np.array_equal(np.unique(cut(both).joint().rows), both.rows("train"))


def test_a_label_without_a_known_training_value_is_not_observed() -> None:
    targets = table().targets.copy()
    sites = table().columns["site"]
    targets[(sites == "north") & (table().split == "train"), 1] = np.nan
    made = cut(table(targets=targets), by="site")
    assert shown(made) == [("Edema",), ("Edema", "Mass")]
    # North shows Edema present only; south brings it absent.
    assert made.first.tolist() == [2, 2]


def test_a_patient_at_two_sites_belongs_to_the_first() -> None:
    north, south = cut(table(), by="site").experiences
    assert north.rows.tolist() == [1, 3]
    assert south.rows.tolist() == [0, 2, 4, 5, 6]


@pytest.mark.parametrize(
    ("dataset", "settings", "message"),
    [
        (table(), {"by": "view"}, "no column view; it has site"),
        (table(columns={}), {"by": "dataset"}, "no column dataset; it has none"),
        (
            combine([table("one"), table("two")]),
            {"steps": 5},
            "5 steps asked for, but dataset has 2 values: one, two; leave steps out or use by=random",
        ),
        (
            combine([table("one"), replace(table("two"), targets=np.full((9, 2), np.nan, np.float32))]),
            {},
            "dataset 'two' has no known label",
        ),
        (
            table(columns={"site": np.array(["a"] * 6 + ["b"] * 3)}),
            {"by": "site"},
            "site 'b' has no patient of its own; use by=random",
        ),
    ],
)
def test_mistakes_are_told_in_one_line(dataset: Dataset, settings: dict[str, object], message: str) -> None:
    with pytest.raises(BadSetting) as caught:
        cut(dataset, **settings)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)

"""``--transfer segmentation`` of a tower on pictures, from the loan of pixels to the numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import retune
from retune.runner.moments import Moments
from retune.runner.run import prepare
from retune.runner.spec import Spec

HERE = Path(__file__).parents[1]


def test_a_tower_that_is_left_alone_keeps_and_one_that_is_destroyed_loses(tmp_path: Path) -> None:
    found = retune.run(
        out=tmp_path, scenario="class-incremental", data=str(HERE / "made_discs.py"), steps=2, replicates=20,
        device="cpu", strategy=str(HERE / "made_destroyer.py"), transfer="segmentation", settings={"data.images": 48},
    ).transfer[0]  # fmt: skip
    assert found.moves
    # Of the frozen backbone's tokens, in half precision; of its own tower's maps, untouched; and blind.
    frozen, own, blind = (np.array(rows, dtype=float) for rows in found.refit["dice"])
    assert own == pytest.approx(frozen, abs=0.01)
    assert found.kept["dice"][1] == pytest.approx(found.refit["dice"][1], abs=0.02)
    assert blind[0] < 0.5 * own[0]
    assert found.metrics["dense_forgetting"].low > 0


@pytest.mark.parametrize(
    ("settings", "kinds"), [({}, {"tokens"}), ({"tower": "pixels"}, {"tokens", "pixels"})]
)
def test_only_what_maps_can_be_made_of_is_encoded(settings: dict[str, Any], kinds: set[str]) -> None:
    spec = Spec(
        scenario="class-incremental", data=str(HERE / "made_discs.py"), steps=2, strategy="m-flag", device="cpu",
        transfer="segmentation", settings={"data.images": 48, **settings},
    )  # fmt: skip
    moments = Moments.of(prepare(spec).plan, lambda *_: None)
    assert moments is not None
    assert {kind for kind, encoded in moments.lent.encoded.items()} == kinds

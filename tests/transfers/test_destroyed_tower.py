"""``--transfer segmentation`` of a tower on pictures, from the loan of pixels to the numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import retune
from retune.errors import StrategyError
from retune.runner.moments import Moments
from retune.runner.run import prepare
from retune.runner.spec import Spec

HERE = Path(__file__).parents[1]


PARTIAL = """
from dataclasses import dataclass

import torch

from retune import Strategy
from retune.backbones.towers import as_maps


@dataclass
class Partial(Strategy):
    \"\"\"Its maps are of single images only.\"\"\"

    name = "partial"
    needs = frozenset({{"tokens"}})

    def fit(self, experience):
        pass

    def score(self, images):
        return torch.zeros(len(images), len(self.context.labels))

    def dense(self, images):
        values = as_maps(images.tokens[torch.arange(len(images))])
        return values if len(images) == 1 else {others}
"""


def spec(strategy: str | Path, settings: dict[str, Any]) -> Spec:
    return Spec(
        scenario="class-incremental", data=str(HERE / "made_discs.py"), steps=2, replicates=20, device="cpu",
        strategy=str(strategy), transfer="segmentation", settings={"data.images": 48, **settings},
    )  # fmt: skip


def test_a_tower_that_is_left_alone_keeps_and_one_that_is_destroyed_loses(tmp_path: Path) -> None:
    found = retune.run(spec(HERE / "made_destroyer.py", {}), out=tmp_path).transfer[0]
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
    moments = Moments.of(prepare(spec("m-flag", settings)).plan, lambda *_: None)
    assert moments is not None
    assert {kind for kind, encoded in moments.lent.encoded.items()} == kinds


@pytest.mark.parametrize(
    ("others", "told"),
    [("None", "and none of"), ("values[..., :2, :2]", r"others of shape \(320, 2, 2\) of")],
)
def test_maps_that_are_no_one_thing_are_told_in_one_line(others: str, told: str, tmp_path: Path) -> None:
    file = tmp_path / "partial.py"
    file.write_text(PARTIAL.format(others=others), encoding="utf-8")
    with pytest.raises(StrategyError, match=rf"^strategy partial: dense gave maps of shape .*{told} \d+$"):
        retune.run(spec(file, {}), out=tmp_path / "run")

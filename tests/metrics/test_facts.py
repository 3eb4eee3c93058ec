"""How common a label is, and which group that puts it in."""

from __future__ import annotations

import numpy as np
import pytest
from retune.scenarios.class_incremental import ClassIncremental
from retune.scenarios.data_incremental import DataIncremental

from retune.data.readers.phantom import Phantom
from retune.metrics import LabelFacts, prevalence_of


def test_prevalence_is_of_the_images_whose_label_is_known():
    targets = [[1, 0, np.nan], [0, np.nan, np.nan], [0, np.nan, np.nan], [np.nan, 0, np.nan], [1, 1, np.nan]]
    assert prevalence_of(targets) == pytest.approx([2 / 4, 1 / 3, np.nan], nan_ok=True)


def test_groups_part_at_ten_and_two_per_cent():
    facts = LabelFacts.of([1] * 6, [0.5, 0.1001, 0.1, 0.02, 0.0199, np.nan])
    assert facts.among("head").tolist() == [True, True, False, False, False, False]
    assert facts.among("medium").tolist() == [False, False, True, True, False, False]
    assert facts.among("tail").tolist() == [False, False, False, False, True, False]
    assert not any(LabelFacts.of([1, 1]).among(group).any() for group in ("head", "medium", "tail"))
    with pytest.raises(ValueError, match="a number for each label"):
        LabelFacts.of([1, 1], [0.5])


def test_a_label_is_as_common_in_one_scenario_as_in_another():
    data = Phantom(images=300, size=64).read(None)
    labels = data.targets[data.rows("train")]
    by_hand = [(column == 1).sum() / (~np.isnan(column)).sum() for column in labels.T]
    for scenario in (ClassIncremental(), DataIncremental()):
        assert scenario.stream(data, 3).prevalence == pytest.approx(by_hand)

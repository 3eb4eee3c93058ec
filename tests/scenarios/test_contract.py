"""What every scenario must keep to; a new file under scenarios/ is tested by existing."""

from __future__ import annotations

import numpy as np
import pytest

from retune import Dataset, Scenario, Stream
from retune.check.checks import Check, made
from retune.check.scenario import CHECKS, Cut
from retune.check.tables import LABELS, dataset, several
from retune.errors import BadSetting
from retune.plugins import registry
from retune.settings import make, settings_of

NAMES = registry("scenarios").names()
CLASSES: dict[str, type[Scenario]] = {name: registry("scenarios").load(name) for name in NAMES}
GENERAL = [name for name in NAMES if not CLASSES[name].data]
"""Scenarios that cut any data set; the others are published streams, defined on certain ones."""


def stream(name: str, seed: int = 0, **settings: object) -> Stream:
    return make(CLASSES[name], settings, owner=name).stream(dataset(), seed)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
@pytest.mark.parametrize("name", NAMES)
def test_keeps_the_contract(name: str, check: Check[Cut]) -> None:
    outcome, reason, _ = made(check, Cut(CLASSES[name], {}), limit=60)
    assert (outcome, reason) == ("passed", "")


@pytest.mark.parametrize("name", NAMES)
class TestEveryScenario:
    """On its default settings over two data sets; a scenario may leave out images and labels."""

    def test_it_has_its_steps_and_knows_when_a_label_enters(self, name: str) -> None:
        made = CLASSES[name]().stream(several(), 0)
        assert len(made) == (getattr(CLASSES[name](), "steps", None) or len(made))
        for c in range(len(made.labels)):
            assert made.first[c] == min(e.step for e in made.experiences if c in e.observed)

    def test_a_patient_comes_again_exactly_if_declared(self, name: str) -> None:
        made = CLASSES[name]().stream(several(), 0)
        patients = [set(made.dataset.patient_id[e.rows]) for e in made.experiences]
        again = sum(map(len, patients)) > len(set().union(*patients))
        assert again is CLASSES[name].recurs

    def test_a_published_stream_says_where_it_is_from_and_what_it_needs(self, name: str) -> None:
        cls = CLASSES[name]
        assert cls.paper or not cls.data
        if cls.data:
            with pytest.raises(BadSetting, match=f"needs --data {cls.data}"):
                cls().stream(dataset(), 0)


@pytest.mark.parametrize("name", GENERAL)
class TestEveryGeneralScenario:
    """On any data set; no image and no label may be left out."""

    @pytest.mark.parametrize("steps", range(2, 15))
    def test_no_label_and_no_image_is_lost(self, name: str, steps: int) -> None:
        made, table = stream(name, steps=steps), dataset()
        assert len(made) == steps
        rows = np.concatenate([e.rows for e in made.experiences])
        assert np.array_equal(np.sort(rows), table.rows("train"))
        assert {c for e in made.experiences for c in e.observed} == set(range(14))
        assert all(len(e) > 0 for e in made.experiences)

    def test_parts_are_of_like_size(self, name: str) -> None:
        sizes = [len(e) for e in stream(name, steps=7).experiences]
        assert max(sizes) - min(sizes) <= 12

    def test_no_patient_stands_in_two_experiences(self, name: str) -> None:
        made = stream(name, steps=5)
        patients = [set(made.dataset.patient_id[e.rows]) for e in made.experiences]
        assert sum(map(len, patients)) == len(set().union(*patients))

    def test_test_patients_are_not_trained_on(self, name: str) -> None:
        made = stream(name)
        assert np.array_equal(made.test, made.dataset.rows("test"))
        assert not set(made.patients) & set(made.dataset.patient_id[made.joint().rows])

    def test_unobserved_labels_are_masked_and_observed_ones_true(self, name: str) -> None:
        for experience in stream(name).experiences:
            truth = dataset().targets[experience.rows]
            hidden = [c for c in range(14) if c not in experience.observed]
            shown = list(experience.observed)
            assert np.isnan(experience.targets[:, hidden]).all()
            same = (experience.targets == truth) | (np.isnan(experience.targets) & np.isnan(truth))
            # What a scenario declares that it does, it does, and nothing else (test_updates.py says how much).
            odd, given = ~same[:, shown], experience.targets[:, shown]
            assert odd.any() <= bool(CLASSES[name].alters_labels)
            assert (np.isnan(given[odd]) == (CLASSES[name].alters_labels == "withheld")).all()

    def test_steps_count_up_and_first_says_when_a_label_enters(self, name: str) -> None:
        made = stream(name)
        assert [e.step for e in made.experiences] == list(range(1, len(made) + 1))
        for c in range(14):
            entered = min(e.step for e in made.experiences if c in e.observed)
            assert made.first[c] == entered

    def test_one_seed_one_stream(self, name: str) -> None:
        assert stream(name, seed=3).fingerprint == stream(name, seed=3).fingerprint
        assert stream(name, seed=3).fingerprint != stream(name, seed=4).fingerprint

    def test_joint_shows_everything(self, name: str) -> None:
        made = stream(name)
        everything = made.joint()
        assert np.array_equal(everything.rows, made.dataset.rows("train"))
        assert np.array_equal(everything.targets, made.dataset.targets[everything.rows], equal_nan=True)

    def test_refuses_impossible_numbers_of_steps(self, name: str) -> None:
        with pytest.raises(BadSetting, match="steps"):
            stream(name, steps=1000)
        with pytest.raises(BadSetting, match="steps"):
            stream(name, steps=0)


def test_fourteen_labels_in_five_steps_are_3_3_3_3_2() -> None:
    assert [len(e.observed) for e in stream("class-incremental", steps=5).experiences] == [3, 3, 3, 3, 2]


def test_class_incremental_shows_each_label_once() -> None:
    observed = [c for e in stream("class-incremental").experiences for c in e.observed]
    assert sorted(observed) == list(range(14))


def test_label_incremental_adds_new_labels_to_old() -> None:
    assert [len(e.observed) for e in stream("label-incremental", steps=5).experiences] == [3, 6, 9, 12, 14]


def test_data_incremental_shows_every_label_every_time() -> None:
    assert all(len(e.observed) == 14 for e in stream("data-incremental").experiences)


def test_one_step_is_joint_training() -> None:
    (only,) = stream("class-incremental", steps=1).experiences
    assert np.array_equal(np.sort(only.rows), dataset().rows("train"))


def test_data_incremental_by_site_gives_each_site_its_experience() -> None:
    made = stream("data-incremental", by="site")
    sites = [set(made.dataset.columns["site"][e.rows]) for e in made.experiences]
    assert sites == [{"north"}, {"south"}, {"west"}]
    with pytest.raises(BadSetting, match="3 values"):
        stream("data-incremental", by="site", steps=5)


def test_label_order() -> None:
    table = dataset()
    positives = np.nansum(table.targets[table.rows("train")], axis=0)
    groups = [e.observed for e in stream("class-incremental", order="frequency", steps=14).experiences]
    counts = [positives[group[0]] for group in groups]
    assert counts == sorted(counts, reverse=True)
    shuffled = [e.observed for e in stream("class-incremental", order="random", steps=14).experiences]
    assert shuffled != [(c,) for c in range(14)]
    assert [e.observed for e in stream("class-incremental", steps=14).experiences] == [
        (c,) for c in range(14)
    ]


def test_every_setting_is_documented() -> None:
    for kind in ("scenarios", "strategies", "datasets"):
        for name in registry(kind).names():  # type: ignore[arg-type]
            for setting in settings_of(registry(kind).load(name)):  # type: ignore[arg-type]
                assert setting.doc, f"{name}: {setting.name} has no line in the docstring"


def test_one_patient_with_most_images_leaves_no_part_empty() -> None:
    table = dataset()
    big = np.where(table.split == "train", np.arange(len(table)), 0)
    patient = np.where((table.split == "train") & (big % 100 != 0), "train 1", table.patient_id)
    other = Dataset(
        name="made up",
        labels=LABELS,
        image_id=table.image_id,
        patient_id=np.where(table.split == "train", patient, np.char.add("other ", table.patient_id)),
        split=table.split,
        targets=table.targets,
        images=table.images,
    )
    scenario: Scenario = make(registry("scenarios").load("class-incremental"), {"steps": 4}, owner="")
    made = scenario.stream(other, 0)
    assert all(len(e) for e in made.experiences)
    assert sum(map(len, made.experiences)) == len(other.rows("train"))

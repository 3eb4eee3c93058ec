"""Published streams against what their papers say, on small tables made by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from retune import Dataset, Scenario, Stream
from retune.data import findings
from retune.data.dataset import split_by_patient
from retune.errors import BadSetting
from retune.plugins import registry
from retune.settings import make

SHARED = ["Consolidation", "Pneumonia", "Pneumothorax"]
COMMON = ["Atelectasis", "Cardiomegaly", "Edema", "Pleural Effusion"]
NIC_7 = [
    ("chexpert", SHARED),
    ("nih", SHARED),
    ("chexpert", ["Enlarged Cardiomediastinum", "Fracture", "Lung Lesion", "Lung Opacity", "Pleural Other"]),
    ("chexpert", COMMON),
    ("nih", COMMON),
    ("nih", ["Emphysema", "Fibrosis", "Hernia", "Infiltration"]),
    ("nih", ["Mass", "Nodule", "Pleural Thickening"]),
]
NIH_5 = [
    ("nih", SHARED),
    ("nih", ["Atelectasis", "Cardiomegaly", "Edema"]),
    ("nih", ["Emphysema", "Fibrosis", "Pleural Effusion"]),
    ("nih", ["Hernia", "Infiltration"]),
    ("nih", ["Mass", "Nodule", "Pleural Thickening"]),
]
CHEXPERT_5 = [
    ("chexpert", SHARED),
    ("chexpert", ["Enlarged Cardiomediastinum", "Fracture", "Lung Opacity"]),
    ("chexpert", ["Lung Lesion", "Pleural Other"]),
    ("chexpert", ["Atelectasis", "Cardiomegaly"]),
    ("chexpert", ["Edema", "Pleural Effusion"]),
]
TASKS = {"ceccon-nic-7": NIC_7, "ceccon-nih-5": NIH_5, "ceccon-chexpert-5": CHEXPERT_5}
HAS = {"chexpert": findings.CHEXPERT, "nih": findings.NIH}
Row = tuple[str, str, str, Sequence[str]]


class NoImages:
    """Scenarios never look at a picture."""


def table(rows: Sequence[Row], *, split: Sequence[str] | None = None, **changes: Any) -> Dataset:
    """Images of (data set, patient, view, what is present); a data set knows its own labels only."""
    labels = [name for name in findings.FINDINGS if any(name in HAS[row[0]] for row in rows)]
    targets = [[float(c in row[3]) if c in HAS[row[0]] else np.nan for c in labels] for row in rows]
    names = list(dict.fromkeys(row[0] for row in rows))
    columns = {"view": np.array([row[2] for row in rows])}
    if len(names) > 1:
        columns["dataset"] = np.array([row[0] for row in rows])
    fields: dict[str, Any] = {
        "name": ",".join(names),
        "labels": tuple(labels),
        "image_id": np.array([f"{row[0]}/{k}" for k, row in enumerate(rows)]),
        "patient_id": np.array([row[1] for row in rows]),
        "split": np.array(split or ["test"] * len(rows)),
        "targets": np.array(targets, np.float32).reshape(len(rows), len(labels)),
        "images": NoImages(),
        "columns": columns,
    }
    return Dataset(**{**fields, **changes})


def patient(split: str, k: int) -> str:
    """The k-th patient of a split of 80/10/10."""
    names = np.array([f"p{i}" for i in range(3000)])
    return str(names[split_by_patient(names, valid=0.1, test=0.1) == split][k])


def every_task(name: str, more: Sequence[Row] = ()) -> list[Row]:
    """Rows that give each task a training patient for each label, and a test patient after them."""
    rows = list(more)
    for t, (data, labels) in enumerate(TASKS[name]):
        for k, label in enumerate(labels):
            rows.append((data, patient("train", 100 + 10 * t + k), "PA", [label]))
            rows.append((data, patient("test", 100 + 10 * t + k), "AP", [label]))
    return rows


def cut(name: str, dataset: Dataset, seed: int = 0, **settings: object) -> Stream:
    scenario: Scenario = make(registry("scenarios").load(name), settings, owner=name)
    return scenario.stream(dataset, seed)


def images(made: Stream) -> list[set[str]]:
    return [set(made.dataset.image_id[e.rows].tolist()) for e in made.experiences]


@pytest.mark.parametrize("name", TASKS)
class TestStreamsOfTasks:
    def test_tasks_are_those_of_the_paper(self, name: str) -> None:
        made = cut(name, table(every_task(name)))
        assert len(made) == len(TASKS[name])
        for e, (data, labels) in zip(made.experiences, TASKS[name], strict=True):
            assert sorted(made.labels[c] for c in e.observed) == sorted(labels)
            assert {i.split("/")[0] for i in made.dataset.image_id[e.rows]} == {data}
            assert len(e) == len(labels)

    def test_labels_are_those_of_its_tasks(self, name: str) -> None:
        made = cut(name, table(every_task(name)))
        assert sorted(made.labels) == sorted({label for _, labels in TASKS[name] for label in labels})
        assert made.labels[:3] == tuple(SHARED)
        assert len(made.labels) == {"ceccon-nic-7": 19, "ceccon-nih-5": 14, "ceccon-chexpert-5": 12}[name]

    def test_tests_on_all_tasks_together_and_on_positive_images_only(self, name: str) -> None:
        data = TASKS[name][0][0]
        healthy = [(data, patient(split, k), "PA", []) for split in ("train", "test") for k in range(3)]
        valid = [(data, patient("valid", k), "PA", ["Edema"]) for k in range(3)]
        made = cut(name, table(every_task(name, [*healthy, *valid])))
        expected = [k for k, row in enumerate(every_task(name), start=9) if row[2] == "AP"]
        assert [int(i.split("/")[1]) for i in made.dataset.image_id[made.test]] == expected
        assert made.dataset.dropped["positive for no label of a task"] == 6
        assert len(made.dataset.rows("valid")) == 3
        assert not set(images(made)[0]) & {f"{data}/{k}" for k in range(9)}

    def test_an_image_comes_in_every_task_it_is_positive_for(self, name: str) -> None:
        data = TASKS[name][0][0]
        both = (data, patient("train", 0), "PA", ["Pneumonia", "Edema"])
        made = cut(name, table(every_task(name, [both])))
        found = [step for step, shown in enumerate(images(made)) if f"{data}/0" in shown]
        assert found == [
            t for t, (of, labels) in enumerate(TASKS[name]) if of == data and {*labels} & {*both[3]}
        ]
        assert len(found) == 2
        for t in found:
            e = made.experiences[t]
            row = e.targets[made.dataset.image_id[e.rows].tolist().index(f"{data}/0")]
            present = {made.labels[c] for c in np.flatnonzero(row == 1)}
            assert present == {"Pneumonia", "Edema"} & set(TASKS[name][t][1])

    def test_disjoint_gives_each_patient_to_one_of_its_tasks(self, name: str) -> None:
        data = TASKS[name][0][0]
        many = [(data, patient("train", k), "PA", ["Pneumonia", "Edema"]) for k in range(60)]
        rows = table(every_task(name, many))
        everywhere = images(cut(name, rows))
        made = cut(name, rows, seed=1, patients="disjoint")
        apart = images(made)
        assert sum(map(len, apart)) == len(set().union(*apart))
        assert set().union(*apart) == set().union(*everywhere)
        assert all(one <= every for one, every in zip(apart, everywhere, strict=True))
        # Sixty patients fall into two tasks by a fair coin.
        shares = [len([i for i in shown if int(i.split("/")[1]) < 60]) for shown in apart]
        assert sorted(shares)[-1] < 45
        assert images(cut(name, rows, seed=2, patients="disjoint")) != apart
        again = cut(name, made.dataset.take(np.arange(1, len(made.dataset))), seed=1, patients="disjoint")
        assert images(again) == [shown - {f"{data}/0"} for shown in apart]

    def test_splits_80_10_10_by_patient_whatever_the_split_was(self, name: str) -> None:
        data = TASKS[name][0][0]
        many = [(data, f"patient {k}", "PA", ["Edema"]) for k in range(2000)]
        made = cut(name, table(every_task(name, many)))
        ours = np.char.startswith(made.dataset.patient_id.astype(str), "patient")
        shares = [np.mean(made.dataset.split[ours] == split) for split in ("train", "valid", "test")]
        # Two standard deviations are .018 and .013.
        assert shares == pytest.approx([0.8, 0.1, 0.1], abs=0.02)

    def test_says_what_is_needed_or_missing(self, name: str) -> None:
        cls = registry("scenarios").load(name)
        other = "nih" if name == "ceccon-chexpert-5" else "chexpert"
        rows = every_task(name)
        mistakes = {
            f"needs --data {cls.data}": table([(other, "p", "PA", [])]),
            "no training image is left for task 1 (Consolidation, Pneumonia, Pneumothorax)": table(
                [row for row in rows if not set(row[3]) & set(SHARED) or row[2] == "AP"]
            ),
            "no test image": table([row for row in rows if row[2] == "PA"]),
        }
        for message, dataset in mistakes.items():
            with pytest.raises(BadSetting) as caught:
                cut(name, dataset)
            assert message in str(caught.value)
            assert f"scenario {name}" in str(caught.value)
            assert "\n" not in str(caught.value)


def test_nic_needs_both_data_sets_even_where_one_has_every_label() -> None:
    rows = every_task("ceccon-nic-7")
    alone = table(rows)
    with pytest.raises(BadSetting, match=r"lacks nih; it needs --data chexpert,nih"):
        cut("ceccon-nic-7", alone.take(np.flatnonzero(alone.columns["dataset"] == "chexpert")))
    with pytest.raises(BadSetting, match=r"lacks chexpert, nih; it needs --data chexpert,nih"):
        cut("ceccon-nic-7", table(rows, columns={}))


def test_nic_takes_the_first_frontal_image_of_a_patient() -> None:
    one, two, three = (patient("train", k) for k in range(3))
    more: list[Row] = [
        ("chexpert", one, "lateral", ["Pneumonia"]),
        ("chexpert", one, "AP", ["Edema"]),
        ("chexpert", one, "PA", ["Fracture"]),
        ("chexpert", two, "PA", []),
        ("chexpert", two, "PA", ["Pneumonia"]),
        ("chexpert", three, "lateral", ["Pneumonia"]),
    ]
    made = cut("ceccon-nic-7", table(every_task("ceccon-nic-7", more)))
    found = {
        f"chexpert/{k}": [t for t, s in enumerate(images(made), 1) if f"chexpert/{k}" in s] for k in range(6)
    }
    assert found == {f"chexpert/{k}": [4] if k == 1 else [] for k in range(6)}
    numbers = [int(i.split("/")[1]) for i in made.dataset.image_id]
    assert numbers == sorted(numbers)
    assert made.dataset.dropped == {
        "not the patient's first frontal image": 4,
        "positive for no label of a task": 1,
    }


def test_nic_leaves_unknown_what_a_data_set_does_not_label() -> None:
    made = cut("ceccon-nic-7", table(every_task("ceccon-nic-7")))
    data = made.dataset.columns["dataset"][made.test]
    for c, label in enumerate(made.labels):
        known = ~np.isnan(made.targets[:, c])
        assert set(data[known]) == {name for name, labels in HAS.items() if label in labels}


def test_fairness_streams_keep_every_image_of_a_patient() -> None:
    more: list[Row] = [("nih", patient("train", 0), "PA", ["Mass"]) for _ in range(3)]
    assert {"nih/0", "nih/1", "nih/2"} <= images(
        cut("ceccon-nih-5", table(every_task("ceccon-nih-5", more)))
    )[4]


@pytest.mark.parametrize("name", ["ceccon-nih-5", "ceccon-chexpert-5"])
def test_disjoint_keeps_a_patient_with_several_images_together(name: str) -> None:
    data = TASKS[name][0][0]
    many = [(data, patient("train", k), "PA", [label]) for k in range(30) for label in ("Pneumonia", "Edema")]
    made = cut(name, table(every_task(name, many)), patients="disjoint")
    patients = [set(made.dataset.patient_id[e.rows]) for e in made.experiences]
    assert sum(map(len, patients)) == len(set().union(*patients))
    ours = {patient("train", k) for k in range(30)}
    assert ours <= set().union(*patients)
    assert sorted(bool(ours & shown) for shown in patients) == [False, False, False, True, True]


FIVE = ("Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Pleural Effusion")


def chexpert(n: int = 400) -> Dataset:
    split = ["train" if k % 8 < 6 else "valid" if k % 8 == 6 else "test" for k in range(n)]
    rows: list[Row] = [("chexpert", f"p{k}", "PA", [findings.CHEXPERT[k % 14]]) for k in range(n)]
    return table(rows, split=split)


@pytest.mark.parametrize(
    ("kind", "observed"),
    [
        ("class", [FIVE[:1], FIVE[1:2], FIVE[2:3], FIVE[3:4], FIVE[4:]]),
        ("label", [FIVE[:1], FIVE[:2], FIVE[:3], FIVE[:4], FIVE]),
        ("data", [FIVE] * 5),
    ],
)
def test_re_tune_shows_its_labels_in_its_order(kind: str, observed: list[tuple[str, ...]]) -> None:
    made = cut("re-tune-chexpert-5", chexpert(), kind=kind)
    assert made.labels == FIVE
    assert [tuple(made.labels[c] for c in e.observed) for e in made.experiences] == observed
    same = cut(f"{kind}-incremental", chexpert().with_labels(FIVE), steps=5)
    assert made.fingerprint == same.fingerprint


@pytest.mark.parametrize("steps", [5, 10, 20])
def test_re_tune_cuts_the_training_images_into_equal_parts(steps: int) -> None:
    made, whole = cut("re-tune-chexpert-5", chexpert(), kind="data", steps=steps), chexpert()
    assert [len(e) for e in made.experiences] == [300 // steps] * steps
    assert np.array_equal(np.sort(np.concatenate([e.rows for e in made.experiences])), whole.rows("train"))
    assert np.array_equal(made.test, whole.rows("test"))


@pytest.mark.parametrize(
    ("kind", "steps", "fix"), [("class", 4, "5"), ("label", 10, "5"), ("data", 7, "10 or 20")]
)
def test_re_tune_refuses_steps_that_were_not_published(kind: str, steps: int, fix: str) -> None:
    with pytest.raises(BadSetting, match=f"{steps} steps .*kind={kind}.*{fix}"):
        cut("re-tune-chexpert-5", chexpert(), kind=kind, steps=steps)

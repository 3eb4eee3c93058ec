"""Streams in which time passes: years, labels that get worse, and labels without clean borders; small tables by hand."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from retune import Dataset, Stream
from retune.check.tables import LABELS, NoImages
from retune.check.tables import dataset as made_up
from retune.cli.main import main
from retune.errors import BadSetting
from retune.plugins import registry
from retune.settings import make

YEARS = {"2016": 30, "2014-07": 20, "2015-02-01": 40}


def dated(counts: dict[str, int] | None = None, **changes: Any) -> Dataset:
    """A patient for each training image, so many with each date, and two test images from 2020."""
    counts = YEARS if counts is None else counts
    dates = [date for date, count in counts.items() for _ in range(count)] + ["2020"] * 2
    n = len(dates)
    fields: dict[str, Any] = {
        "name": "dated",
        "labels": ("Edema", "Mass"),
        "image_id": np.array([f"i{k}" for k in range(n)]),
        "patient_id": np.array([f"p{k}" for k in range(n)]),
        "split": np.array(["train"] * (n - 2) + ["test"] * 2),
        "targets": np.array([[k % 2, k % 3 == 0] for k in range(n)], np.float32),
        "images": NoImages(),
        "columns": {"date": np.array(dates)},
    }
    return Dataset(**{**fields, **changes})


def cut(name: str, dataset: Dataset, seed: int = 0, **settings: object) -> Stream:
    return make(registry("scenarios").load(name), settings, owner="").stream(dataset, seed)


def by_year(dataset: Dataset, **settings: object) -> Stream:
    return cut("data-incremental", dataset, by="year", **settings)


def rows(made: Stream) -> list[list[int]]:
    return [e.rows.tolist() for e in made.experiences]


class TestByYear:
    def test_the_earliest_year_comes_first_whatever_the_order_of_the_table(self) -> None:
        made = by_year(dated())
        assert rows(made) == [list(range(30, 50)), list(range(50, 90)), list(range(30))]
        assert made.test.tolist() == [90, 91]
        assert made.dataset.choices["years"] == "2014, 2015, 2016"
        assert made.dataset.fingerprint == dated().fingerprint

    def test_a_patient_belongs_to_the_year_of_the_first_image_and_so_do_the_later_ones(self) -> None:
        table = dated()
        patients = table.patient_id.copy()
        patients[[0, 1, 30]] = "again"  # 2016, 2016 and 2014
        made = by_year(replace(table, patient_id=patients))
        assert rows(made) == [[0, 1, *range(30, 50)], list(range(50, 90)), list(range(2, 30))]
        told = "2014, 2015, 2016; 2 images of patients who come again stand in the year of their first one"
        assert made.dataset.choices["years"] == told

    @pytest.mark.parametrize(
        ("counts", "steps", "sizes", "told"),
        [
            (YEARS, 2, [60, 30], "2014 to 2015, 2016"),
            (YEARS, 1, [90], "2014 to 2016"),
            # Middles of 5, 13, 25, 35 of 40 images, so parts 0, 0, 1, 1.
            ({"2011": 10, "2012": 6, "2013": 18, "2014": 6}, 2, [16, 24], "2011 to 2012, 2013 to 2014"),
            # All but the last middle fall into one part of three, and so years are shared.
            (
                {"2011": 2, "2012": 2, "2013": 2, "2014": 94},
                3,
                [4, 2, 94],
                "2011 to 2012, 2013, 2014",
            ),
        ],
    )
    def test_neighbouring_years_are_put_together(
        self, counts: dict[str, int], steps: int, sizes: list[int], told: str
    ) -> None:
        made = by_year(dated(counts), steps=steps)
        assert [len(e) for e in made.experiences] == sizes
        assert made.dataset.choices["years"] == told

    @pytest.mark.parametrize(
        ("table", "settings", "message"),
        [
            (made_up(), {}, "data set made up has no dates"),
            (
                dated({"2014": 30, "": 2, "2016": 30}),
                {},
                "2 of 62 training images have no known date, the first is 'i30'",
            ),
            (
                dated(),
                {"steps": 4},
                "4 steps asked for, but patients first come in 3 years: 2014, 2015, 2016",
            ),
            (
                dated({"2014": 19, "2015": 30}),
                {},
                "2014 has 19 training images of patients who had not come before, fewer than 20; give --steps 1",
            ),
            (
                dated(targets=np.array([[np.nan if k < 30 else k % 2] * 2 for k in range(92)], np.float32)),
                {},
                "no label is known of any training image of 2016",
            ),
        ],
    )
    def test_mistakes_are_told_in_one_line(
        self, table: Dataset, settings: dict[str, object], message: str
    ) -> None:
        with pytest.raises(BadSetting) as caught:
            by_year(table, **settings)
        assert message in str(caught.value)
        assert "\n" not in str(caught.value)


class TestLabelNoise:
    def test_the_share_goes_from_first_to_last(self) -> None:
        table = made_up(2000)
        made = cut("label-noise", table, first=0.4, last=0.0, steps=3)
        for e, share in zip(made.experiences, (0.4, 0.2, 0.0), strict=True):
            truth = table.targets[e.rows]
            assert np.array_equal(np.isnan(e.targets), np.isnan(truth))
            known = ~np.isnan(truth)
            n = known.sum()
            # Five standard deviations of a binomial share.
            assert abs((e.targets != truth)[known].mean() - share) <= 5 * np.sqrt(share * (1 - share) / n)

    def test_all_flipped_by_hand_and_nothing_else(self) -> None:
        targets = np.array([[1, 0], [np.nan, 1]] * 46, np.float32)
        made = cut("label-noise", dated(targets=targets), steps=1, first=1.0, last=1.0)
        (only,) = made.experiences
        assert np.array_equal(only.targets[:2], [[0, 1], [np.nan, 0]], equal_nan=True)
        assert np.array_equal(made.targets, targets[90:], equal_nan=True)
        assert np.array_equal(made.joint().targets, targets[:90], equal_nan=True)

    def test_without_noise_it_is_data_incremental(self) -> None:
        clean, plain = cut("label-noise", made_up(), last=0.0), cut("data-incremental", made_up())
        for one, other in zip(clean.experiences, plain.experiences, strict=True):
            assert np.array_equal(one.rows, other.rows)
            assert np.array_equal(one.targets, other.targets, equal_nan=True)

    def test_other_flips_are_another_stream(self) -> None:
        prints = {cut("label-noise", made_up(), last=last).fingerprint for last in (0.0, 0.2, 0.21)}
        assert len(prints) == 3


class TestBlurry:
    def test_what_is_told_outside_by_hand(self) -> None:
        # Two parts of 400, each label present in half; a quarter of what is told of it lies in the other part.
        n = 800
        table = dated({"2014": n}, targets=np.array([[k % 2, k % 4 < 2] for k in range(n + 2)], np.float32))
        made = cut("blurry", table, steps=2, disjoint=0.0, blur=0.25)
        counts = [
            [int((e.targets[:, c] == v).sum()) for c in (0, 1) for v in (0, 1)] for e in made.experiences
        ]
        truth = [
            [int((table.targets[e.rows, c] == v).sum()) for c in (0, 1) for v in (0, 1)]
            for e in made.experiences
        ]
        shares = [[0.75, 0.75, 0.25, 0.25], [0.25, 0.25, 0.75, 0.75]]
        assert counts == [
            [int(np.ceil(share * k)) for share, k in zip(of, there, strict=True)]
            for of, there in zip(shares, truth, strict=True)
        ]
        assert [e.observed for e in made.experiences] == [(0, 1), (0, 1)]
        assert made.first.tolist() == [1, 1]
        for e in made.experiences:
            there = ~np.isnan(e.targets)
            assert np.array_equal(e.targets[there], table.targets[e.rows][there])

    @pytest.mark.parametrize("settings", [{"blur": 0.0}, {"disjoint": 1.0}, {"steps": 1}])
    def test_without_blur_it_is_class_incremental(self, settings: dict[str, object]) -> None:
        plain = cut("class-incremental", made_up(), **{k: v for k, v in settings.items() if k == "steps"})
        for one, other in zip(
            cut("blurry", made_up(), **settings).experiences, plain.experiences, strict=True
        ):
            assert one.observed == other.observed
            assert np.array_equal(one.rows, other.rows)
            assert np.array_equal(one.targets, other.targets, equal_nan=True)

    def test_a_share_of_the_labels_keeps_clean_borders(self) -> None:
        made = cut("blurry", made_up(), disjoint=0.5)
        times = [sum(c in e.observed for e in made.experiences) for c in range(len(LABELS))]
        assert sorted(times) == [1] * 7 + [5] * 7

    def test_absent_says_nothing_of_images_that_do_not_tell_an_observed_label(self) -> None:
        plain, absent = (cut("blurry", made_up(), hidden=hidden) for hidden in ("masked", "absent"))
        for one, other in zip(plain.experiences, absent.experiences, strict=True):
            shown = list(one.observed)
            assert np.isnan(other.targets[:, shown]).any()
            assert np.array_equal(one.targets[:, shown], other.targets[:, shown], equal_nan=True)


RUN = ["--strategy", "ridge", "--set", "data.images=160", "--set", "data.size=32", "--replicates", "20"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--scenario", "label-noise", "--set", "scenario.last=1.5"], "setting last: '1.5' is not"),
        (["--scenario", "label-noise", "--set", "scenario.first=-0.1"], "setting first: '-0.1' is not"),
        (["--scenario", "blurry", "--set", "scenario.blur=2"], "setting blur: '2' is not"),
        (["--scenario", "blurry", "--set", "scenario.disjoint=nan"], "setting disjoint: 'nan' is not"),
        (["--scenario", "data-incremental", "--set", "scenario.by=year"], "data set phantom has no dates"),
    ],
)
def test_a_mistake_is_one_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", *arguments, *RUN]) == 2
    told = capsys.readouterr().err
    assert message in " ".join(told.split())
    assert "Traceback" not in told


def test_a_run_withholds_reports_and_records_and_says_what_was_done_to_labels(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "told.py").write_text(
        '"""Says whether it was given reports."""\n'
        "from retune import Strategy\n\n\n"
        "class Told(Strategy):\n"
        '    """It learns nothing."""\n\n'
        '    name = "told"\n    needs = frozenset({"features"})\n\n'
        "    def setup(self, context):\n        self.labels = context.labels\n\n"
        "    def fit(self, experience):\n"
        "        if experience.reports is not None:\n            raise RuntimeError('reports')\n\n"
        "    def score(self, images):\n"
        "        return images.features[:, : len(self.labels)]\n"
    )
    learner = ["--strategy", str(tmp_path / "told.py"), *RUN[2:], "--steps", "2"]
    cuts = (["label-noise"], ["blurry", "--set", "scenario.disjoint=0"], ["data-incremental"])
    codes = [
        main(["run", "--scenario", *scenario, *learner, "--out", str(tmp_path / scenario[0])])
        for scenario in cuts
    ]
    assert codes == [0, 0, 1]
    told = " ".join(capsys.readouterr().out.split())
    for name, altered in (("label-noise", "flipped"), ("blurry", "withheld")):
        assert f"Training labels are {altered} of some images by {name}" in told
        result = json.loads((tmp_path / name / "result.json").read_text())
        assert result["scenario"]["altered"] == altered

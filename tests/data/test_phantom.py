"""The phantom: deterministic, consistent tables and pictures in which every finding shows."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter1d

from retune.data.findings import CHEXPERT
from retune.data.phantom import BENCHMARK_SITES, PRETRAIN_SITES, SITES, Exams, exams, masks, render, reports
from retune.data.phantom.frame import blurred
from retune.data.phantom.phrases import ABSENT, PRESENT
from retune.data.phantom.tables import DRAWN, PREVALENCE, correlations
from retune.data.readers.phantom import Phantom
from retune.errors import BadSetting, UnknownName

AT = {name: k for k, name in enumerate(CHEXPERT)}
COLUMNS = [name for name in Exams.__dataclass_fields__ if name != "seed"]


@lru_cache
def big() -> Exams:
    return exams(11, 12_000, ["A"])


@lru_cache
def healthy() -> Exams:
    """Exams of site A without any finding or device."""
    table = exams(5, 400, ["A"])
    rows = np.flatnonzero((table.labels[:, 0] > 0) & (table.labels[:, AT["Support Devices"]] == 0))
    return take(table, rows[:24])


def take(table: Exams, rows: np.ndarray) -> Exams:
    return replace(table, **{name: getattr(table, name)[rows] for name in COLUMNS})


def with_finding(table: Exams, name: str, severity: float, side: int = 1) -> Exams:
    """The same patients with one finding more."""
    k = AT[name]
    labels, grade, sides = table.labels.copy(), table.severity.copy(), table.side.copy()
    labels[:, k], labels[:, 0], grade[:, k] = 1, 0, severity
    sides[:, k] = 2 if name == "Edema" else side
    return replace(table, labels=labels, severity=grade, side=sides)


def test_the_same_seed_gives_the_same_table_and_pixels() -> None:
    one, two = exams(3, 40, "ABCD"), exams(3, 40, "ABCD")
    for name in COLUMNS:
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))
    np.testing.assert_array_equal(render(one, range(6), size=64), render(two, range(6), size=64))


def test_other_seeds_give_other_tables_and_pixels() -> None:
    one, two = exams(3, 40, "A"), exams(4, 40, "A")
    assert not np.array_equal(one.labels, two.labels)
    assert not np.array_equal(render(one, [0], size=64), render(two, [0], size=64))


@pytest.mark.parametrize("n", [50, 51, 52])
def test_a_shorter_table_is_the_beginning_of_a_longer_one(n: int) -> None:
    short, long = exams(8, n, BENCHMARK_SITES), exams(8, 100, BENCHMARK_SITES)
    for name in COLUMNS:
        np.testing.assert_array_equal(getattr(short, name), getattr(long, name)[:n])
    np.testing.assert_array_equal(render(short, [49], size=64), render(long, [49], size=64))


@pytest.mark.parametrize("size", [64, 128, 200])
def test_an_image_does_not_depend_on_its_batch(size: int) -> None:
    table = exams(9, 20, tuple(SITES))
    together = render(table, range(20), size=size)
    for row in (0, 7, 13, 19):
        np.testing.assert_array_equal(render(table, [row], size=size)[0], together[row])
    np.testing.assert_array_equal(render(table, [7, 3], size=size), together[[7, 3]])


def test_what_is_looked_for_only_where_it_can_be_is_found_everywhere(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    table = exams(9, 20, tuple(SITES))
    narrow = render(table, range(20), size=96)
    monkeypatch.setattr("retune.data.phantom.body.band", lambda y, low, high: slice(None))
    np.testing.assert_array_equal(render(table, range(20), size=96), narrow)


@pytest.mark.parametrize(("mode", "outside"), [("constant", "constant"), ("edge", "nearest")])
@pytest.mark.parametrize("sigma", [0.45, 0.64, 2.56])
def test_a_blur_has_the_digits_of_scipys(mode: str, outside: str, sigma: float) -> None:
    images = np.random.default_rng(0).normal(size=(3, 40, 33)).astype(np.float32)
    expected = images
    for ax in (1, 2):
        expected = gaussian_filter1d(expected, sigma, axis=ax, mode=outside, truncate=2.5)
    np.testing.assert_array_equal(blurred(images, sigma, mode=mode), expected)


def test_noise_is_the_sum_of_the_quarters_of_words() -> None:
    draws = exams(9, 5, "A").of_images()
    quarters = draws.bits("grain", 6 * 7).astype("<u8").view("<u2").reshape(5, 6, 7, 4).astype(np.int64)
    scale = np.float32(1 / (65536 * np.sqrt(1 / 3)))
    expected = (quarters.sum(axis=-1) - 2 * 65535).astype(np.float32) * scale
    np.testing.assert_array_equal(draws.noise("grain", 6, 7), expected)


def test_sizes_show_the_same_anatomy() -> None:
    table = healthy()
    small = render(table, range(4), size=64).astype(float)
    large = render(table, range(4), size=256).astype(float).reshape(4, 64, 4, 64, 4).mean(axis=(2, 4))
    for a, b in zip(small, large, strict=True):
        assert np.corrcoef(a.ravel(), b.ravel())[0, 1] > 0.97


def test_render_gives_bytes_of_the_asked_shape() -> None:
    table = exams(1, 3, "F")
    assert render(table, [], size=48).shape == (0, 48, 48)
    image = render(table, np.array([2, 0]), size=48)
    assert image.shape == (2, 48, 48)
    assert image.dtype == np.uint8
    assert image.min() < 40
    assert image.max() > 180


def test_patients_have_one_to_three_images_and_one_identity() -> None:
    table = exams(2, 5_000, BENCHMARK_SITES)
    _, first, counts = np.unique(table.patient, return_index=True, return_counts=True)
    assert counts.max() == 3
    assert 1.3 < counts[:-1].mean() < 1.5
    for name in ("site", "sex", "age", "zone"):
        column = getattr(table, name)
        if name != "zone":
            np.testing.assert_array_equal(column, np.repeat(column[first], counts, axis=0))
    same = table.patient[1:] == table.patient[:-1]
    agree = (table.labels[1:] == table.labels[:-1]).mean(axis=1)
    assert agree[same].mean() > agree[~same].mean() + 0.05
    assert set(table.site) == set(BENCHMARK_SITES)
    assert set(table.view) == {"PA", "AP"}


def test_prevalences_are_near_the_published_ones() -> None:
    share = big().labels.mean(axis=0)
    for name, expected in PREVALENCE.items():
        if name != "No Finding":
            assert abs(share[AT[name]] - expected) < 0.15 * expected + 0.012, name
    assert share.min() > 0.03


def test_findings_occur_together_as_published() -> None:
    labels = big().labels
    phi = np.corrcoef(labels.T)
    assert np.linalg.eigvalsh(correlations()).min() > 0
    together = [
        ("Edema", "Pneumonia"),
        ("Cardiomegaly", "Pleural Effusion"),
        ("Atelectasis", "Pleural Effusion"),
        ("Support Devices", "Pneumothorax"),
        ("Lung Lesion", "Pleural Other"),
    ]
    for a, b in together:
        assert phi[AT[a], AT[b]] > 0.03, (a, b)
    for a, b in [("Edema", "Pneumothorax"), ("Cardiomegaly", "Pneumothorax")]:
        assert phi[AT[a], AT[b]] < 0, (a, b)


def test_labels_agree_with_one_another() -> None:
    table = big()
    np.testing.assert_array_equal(table.labels[:, 0], table.labels[:, 1:13].max(axis=1) == 0)
    assert (table.labels[(table.labels[:, 0] > 0), AT["Support Devices"]] > 0).any()
    np.testing.assert_array_equal(table.severity[:, 1:] > 0, table.labels[:, 1:] > 0)
    assert table.severity.max() <= 1
    child = table.labels[
        :, [AT["Edema"], AT["Consolidation"], AT["Pneumonia"], AT["Atelectasis"], AT["Lung Lesion"]]
    ]
    assert table.labels[child.max(axis=1) > 0, AT["Lung Opacity"]].mean() > 0.85
    assert set(DRAWN) | {"No Finding", "Lung Opacity"} == set(CHEXPERT)


def test_label_noise_flips_its_share_and_leaves_the_clean_labels() -> None:
    clean, noisy = exams(6, 4_000, "AB", label_noise=0.0), exams(6, 4_000, "AB", label_noise=0.1)
    np.testing.assert_array_equal(clean.labels, noisy.labels)
    np.testing.assert_array_equal(clean.labels, clean.noisy_labels)
    flipped = (noisy.labels != noisy.noisy_labels)[:, 1:].mean()
    assert 0.09 < flipped < 0.11
    np.testing.assert_array_equal(noisy.noisy_labels[:, 0], noisy.noisy_labels[:, 1:13].max(axis=1) == 0)
    np.testing.assert_array_equal(render(clean, [3], size=64), render(noisy, [3], size=64))


@pytest.mark.parametrize("name", CHEXPERT[1:])
def test_a_finding_changes_the_image_inside_its_mask(name: str) -> None:
    without = take(healthy(), np.arange(12))
    rows = np.arange(12)
    table = with_finding(without, name, 0.8)
    mask = masks(table, rows, size=96)[:, AT[name]]
    assert mask.any(axis=(1, 2)).mean() > 0.85
    assert mask.mean() < 0.6
    change = np.abs(render(table, rows, size=96).astype(float) - render(without, rows, size=96))
    assert change[mask].mean() > 4 * change[~mask].mean()


def test_masks_of_absent_findings_are_empty() -> None:
    table = with_finding(take(healthy(), np.arange(3)), "Pneumonia", 0.9)
    found = masks(table, range(3), size=64).any(axis=(2, 3))
    expected = np.zeros((3, 14), dtype=bool)
    expected[:, AT["Pneumonia"]] = True
    np.testing.assert_array_equal(found, expected)
    # Where Lung Opacity is labelled too, it shows where the pneumonia does.
    labels = table.labels.copy()
    labels[:, AT["Lung Opacity"]] = 1
    both = masks(replace(table, labels=labels), range(3), size=64)
    np.testing.assert_array_equal(both[:, AT["Lung Opacity"]], both[:, AT["Pneumonia"]])


def test_a_mild_finding_changes_less_than_a_severe_one() -> None:
    rows = np.arange(12)
    without = take(healthy(), rows)
    plain = render(without, rows, size=96).astype(float)
    for name in CHEXPERT[1:]:
        mild, severe = (
            np.abs(render(with_finding(without, name, grade), rows, size=96) - plain).mean()
            for grade in (0.1, 0.9)
        )
        assert severe > 1.2 * mild, name


def heart_width(images: np.ndarray) -> np.ndarray:
    """Bright pixels across the chest at the level of the heart."""
    size = images.shape[1]
    band = images[:, int(0.58 * size) : int(0.64 * size), int(0.2 * size) : int(0.8 * size)].mean(axis=1)
    threshold = 0.5 * (np.percentile(band, 10, axis=1) + np.percentile(band, 95, axis=1))
    return (band > threshold[:, None]).sum(axis=1)


def test_cardiomegaly_widens_the_heart() -> None:
    table, rows = healthy(), np.arange(24)
    normal = heart_width(render(table, rows))
    large = heart_width(render(with_finding(table, "Cardiomegaly", 0.9), rows))
    assert (large > normal).mean() > 0.9
    assert large.mean() > 1.2 * normal.mean()


def mean_inside(table: Exams, without: Exams, name: str) -> tuple[float, float]:
    rows = np.arange(len(table))
    mask = masks(table, rows)[:, AT[name]]
    return float(render(table, rows)[mask].mean()), float(render(without, rows)[mask].mean())


def test_air_darkens_and_fluid_brightens() -> None:
    without = take(healthy(), np.arange(8))
    gas, lung = mean_inside(with_finding(without, "Pneumothorax", 0.8), without, "Pneumothorax")
    assert gas < lung - 2
    for name in (
        "Pleural Effusion",
        "Consolidation",
        "Lung Opacity",
        "Lung Lesion",
        "Pleural Other",
        "Support Devices",
    ):
        dense, lung = mean_inside(with_finding(without, name, 0.8), without, name)
        assert dense > lung + 5, name
    fluid = masks(with_finding(without, "Pleural Effusion", 0.5), range(8))[:, AT["Pleural Effusion"]]
    height, width = np.nonzero(fluid)[1:]
    assert height.mean() > 70, "fluid lies at the base"
    assert width.mean() > 64, "the patient's left is at the image's right"


def test_sites_look_different() -> None:
    level = {}
    for site in SITES:
        images = render(exams(1, 16, site), range(16), size=64).astype(float)
        level[site] = np.array([images.mean(), images.std(), np.abs(np.diff(images, axis=1)).mean()])
    names = list(SITES)
    for k, a in enumerate(names):
        for b in names[k + 1 :]:
            assert np.abs(level[a] - level[b]).max() > 2, (a, b)
    assert len(BENCHMARK_SITES) == 4
    assert not {"C", "D"} & set(PRETRAIN_SITES)


def test_reports_name_what_is_there() -> None:
    table = exams(12, 400, BENCHMARK_SITES)
    texts = reports(table, range(400))
    assert texts == reports(table, np.arange(400))
    assert texts[7] == reports(table, [7])[0]
    assert all(2 <= text.count(".") <= 8 for text in texts)
    assert not any("{" in text or "  " in text for text in texts)
    stems = {"Cardiomegaly": ("cardi", "heart"), "Pneumothorax": ("pneumothorax", "pleural line"),
             "Pleural Effusion": ("effusion", "fluid"), "Edema": ("edema", "congestion"),
             "Fracture": ("fracture",), "Pneumonia": ("pneumonia", "infection", "infiltrate")}  # fmt: skip
    for name, words in stems.items():
        severe = np.flatnonzero(table.severity[:, AT[name]] > 0.8)
        named = [any(word in texts[i].lower() for word in words) for i in severe]
        assert np.mean(named) > 0.7, name


def test_reports_never_claim_an_absent_finding() -> None:
    table = healthy()
    said = " ".join(reports(table, range(24)))
    for phrases in PRESENT.values():
        for phrase in phrases:
            assert "{" in phrase or phrase not in said
    assert min(len(set(p)) for p in (*PRESENT.values(), *ABSENT.values())) >= 6


def test_a_users_mistakes_are_told() -> None:
    with pytest.raises(UnknownName, match="unknown site 'Z'"):
        exams(0, 3, ["A", "Z"])
    with pytest.raises(BadSetting, match="n_images"):
        exams(0, 0, ["A"])
    with pytest.raises(BadSetting, match="sites"):
        exams(0, 3, [])
    for noise in (-0.1, 0.5, float("nan")):
        with pytest.raises(BadSetting, match="label_noise"):
            exams(0, 3, ["A"], label_noise=noise)
    table = exams(0, 3, ["A"])
    for draw in (render, masks):
        with pytest.raises(BadSetting, match="size"):
            draw(table, [0], size=16)
        with pytest.raises(BadSetting, match="rows run from 0 to 2"):
            draw(table, [3])
    with pytest.raises(BadSetting, match="rows run from 0 to 2"):
        reports(table, [-1])


def test_years_drift_and_the_first_one_is_as_without() -> None:
    plain, drifted = exams(7, 6000, ["A", "C"]), exams(7, 6000, ["A", "C"], years=4)
    assert set(plain.year.tolist()) == {0}
    assert sorted(set(drifted.year.tolist())) == [0, 1, 2, 3]
    first, last = drifted.year == 0, drifted.year == 3
    np.testing.assert_array_equal(plain.labels[first], drifted.labels[first])
    rows = np.flatnonzero(first)[:3]
    np.testing.assert_array_equal(render(plain, rows, size=64), render(drifted, rows, size=64))
    for name, sign in (("Pneumonia", 1), ("Support Devices", 1), ("Edema", -1)):
        before, after = (drifted.labels[rows, AT[name]].mean() for rows in (first, last))
        assert sign * (after - before) > 0.02, name


def test_the_last_years_pictures_are_of_other_equipment() -> None:
    table = healthy()
    late = replace(table, progress=np.ones(len(table)))
    before, after = (render(of, range(12), size=64).astype(float) for of in (table, late))
    assert np.abs(before - after).mean() > 3


def test_dates_are_of_the_readers_setting_alone() -> None:
    plain, dated = Phantom(images=300).read(None), Phantom(images=300, years=5).read(None)
    assert "date" not in plain.columns
    assert sorted(set(dated.columns["date"].tolist())) == ["2010", "2011", "2012", "2013", "2014"]
    assert not set(plain.images.keys(np.arange(300))) & set(dated.images.keys(np.arange(300)))
    assert dated.patient_id.tolist() == plain.patient_id.tolist()
    several = {p for p in dated.patient_id if len(set(dated.columns["date"][dated.patient_id == p])) > 1}
    assert several

"""The page of the leaderboard: what it says, and which entries it calls tied."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from leaderboard.made_entries import (
    CLASS,
    LABELS,
    NIH,
    STEPS,
    add,
    document,
    empty,
    packaged,
    published,
    replicates,
    spoil,
)
from leaderboard.site_pages import built, parsed, rows

from retune.leaderboard.entry import Entry
from retune.leaderboard.site.matrix import matrices
from retune.leaderboard.site.ties import tie_groups
from retune.metrics import forgetting
from retune.metrics.table import DECIDES, in_table


def test_every_track_and_every_entry_has_its_page(site: Path) -> None:
    assert {f.stem for f in (site / "tracks").iterdir()} == set(packaged())
    assert {f.name for f in (site / "entries" / CLASS).iterdir()} == {
        f"{name}-1.html"
        for name in ("best", "close", "replayed", "cheap", "other-backbone", "claimed", "joint", "undefined")
    }
    index = rows(site / "index.html")
    assert [[row[0], row[5], row[4]] for row in index] == [
        ["phantom (synthetic), class-incremental in 5 steps", "class-incremental", "8"],
        ["phantom (synthetic), data-incremental", "data-incremental", "1"],
        ["NIH ChestX-ray14, class-incremental in 5 steps", "class-incremental", "1"],
    ]
    assert index[0][1] == "best tied with 1", "claims that nobody has recomputed are not the best"
    assert index[0][2].startswith(".830 ± .002")
    assert index[2][3] == "self-reported"


def test_a_track_ranks_what_was_recomputed_and_nothing_else(site: Path) -> None:
    ranks = {row[1].split(" 1")[0]: row[0] for row in rows(site / "tracks" / f"{CLASS}.html")}
    assert ranks == {
        "claimed": "–", "best": "1=", "close": "1=", "other backbone": "3", "cheap": "4", "replayed": "5",
        "undefined": "–", "joint": "–",
    }  # fmt: skip
    order = list(ranks)
    assert order.index("claimed") < order.index("best"), "sorted by final AUC"
    assert order[-1] == "joint"


def test_the_numbers_of_a_row_are_those_of_the_entry(site: Path) -> None:
    row = next(row for row in rows(site / "tracks" / f"{CLASS}.html") if row[1].startswith("replayed"))
    told = published(site.parent / "board", CLASS, "replayed-1")["metrics"]
    zero_shot, gain, average, lost, *groups = (
        f"{m['mean']:.3f} ± {m['sd']:.3f}{m['low']:.3f} to {m['high']:.3f}".replace("-", "−").replace(
            "0.", "."
        )
        for m in (told[metric.key] for metric in in_table("board") if metric != DECIDES)
    )
    assert row[2:] == [
        ".780 ± .002.765 to .795", "recomputed", zero_shot, gain, average, lost, *groups,
        "3", "phantom-clip", "1,806", "0.50 s", "200 features, 102 kB",
    ]  # fmt: skip


def test_synthetic_stands_beside_every_number_that_is(site: Path) -> None:
    for name in (f"tracks/{CLASS}.html", f"entries/{CLASS}/best-1.html", "index.html"):
        assert "no claim about patients rests on them" in parsed(site / name).text
    for row in rows(site / "index.html"):
        assert ("synthetic" in row[0]) == ("synthetic" in row[2]) == ("phantom" in row[0])
    for row in rows(site / "entries.html"):
        assert ("synthetic" in row[1]) == ("phantom" in row[1])
    headings = re.findall(
        r"<h[123]>(.*?)</h[123]>", (site / f"entries/{CLASS}/best-1.html").read_text("utf-8")
    )
    assert [("synthetic" in h) for h in headings if h.startswith(("best", "Numbers", "AUC matrix"))] == [
        True
    ] * 3
    assert "synthetic" not in parsed(site / f"entries/{NIH}/real-1.html").text


def test_that_data_is_synthetic_is_known_of_the_data_set_not_of_the_entry(tmp_path: Path) -> None:
    made = document(name="liar")
    made["data"]["synthetic"] = False
    add(tmp_path / "board", made)
    out, _ = built(tmp_path / "board", tmp_path / "site")
    assert "no claim about patients" in parsed(out / f"entries/{CLASS}/liar-1.html").text


def test_an_entry_shows_its_remarks_and_how_far_it_was_checked(tmp_path: Path) -> None:
    board = empty(tmp_path / "board")
    add(
        board,
        document(name="a"),
        "re-run",
        remarks=["something to know"],
        difference=4e-7,
        rerun_difference=2e-4,
    )
    add(board, document(name="b", seeds=(0,)), None)
    out, _ = built(board, tmp_path / "site")
    a, b = (parsed(out / f"entries/{CLASS}/{name}-1.html").text for name in "ab")
    assert "something to know" in a
    assert "recomputed one: 4e-07" in a
    assert "repeated run: 0.0002" in a
    assert "1 seed only" in b, "what can be told without verifying is told"
    assert "nobody has recomputed it" in b


def test_a_record_of_another_entry_counts_for_nothing(tmp_path: Path) -> None:
    board = empty(tmp_path / "board")
    add(board, document(name="a"), "re-run")
    spoil(board, CLASS, "a-1", '"note": null', '"note": "changed since"')
    out, found = built(board, tmp_path / "site")
    assert rows(out / f"tracks/{CLASS}.html")[0][:4:3] == ["–", "self-reported"]
    assert found.entries == 1


def test_a_matrix_is_the_mean_over_seeds_where_they_share_an_order_of_labels() -> None:
    entry = Entry.model_validate(document(name="a"))
    (matrix,) = matrices(entry)
    assert matrix.title == "mean of 3 seeds"
    by_label = {column.label: column for column in matrix.columns}
    for c, label in enumerate(LABELS):
        for i in range(STEPS + 1):
            mean = np.mean([run.auc_matrix[i][c] for run in entry.runs])
            assert by_label[label].cells[i].value == pytest.approx(mean)
            assert ("pale" in by_label[label].cells[i].style) == (i < entry.runs[0].first[c])
    expected = [forgetting(np.array(run.auc_matrix, dtype=float), np.array(run.first)) for run in entry.runs]
    lost = [column.lost for column in matrix.columns if not np.isnan(column.lost)]
    assert np.mean(lost) == pytest.approx(np.mean(expected))
    several = matrices(Entry.model_validate(document(name="a", one_order=False)))
    assert [m.title for m in several] == ["seed 0", "seed 1", "seed 2"]
    assert all([c.first for c in m.columns] == sorted(c.first for c in m.columns) for m in several)


def test_a_newer_version_is_named_beside_the_older(tmp_path: Path) -> None:
    board = empty(tmp_path / "board")
    for version in ("9", "10", "9.1"):
        add(board, document(name="a", method={"version": version}))
    out, _ = built(board, tmp_path / "site")
    told = sorted(row[1] for row in rows(out / f"tracks/{CLASS}.html"))
    assert told == ["a 10", "a 9 newer: 10", "a 9.1 newer: 10"]
    links = parsed(out / f"entries/{CLASS}/a-9.html").links()
    assert f"../../entries/{CLASS}/a-10.html" in links


def slow_groups(means: list[float], samples: list[list[float]]) -> list[int]:
    """The definition, an entry at a time, with numpy's own percentiles."""
    found: dict[int, int] = {}
    group = 0
    while len(found) < len(means):
        group += 1
        left = [k for k in range(len(means)) if k not in found]
        head = max(left, key=lambda k: means[k])
        for k in left:
            difference = np.array(samples[k]) - np.array(samples[head])
            if np.percentile(difference, 97.5) >= 0:
                found[k] = group
    return [found[k] for k in range(len(means))]


@pytest.mark.parametrize("seed", range(20))
def test_ties_are_those_of_paired_differences(seed: int) -> None:
    rng = np.random.default_rng(seed)
    many = int(rng.integers(1, 15))
    means = rng.uniform(0.7, 0.75, many)
    common = rng.normal(0, 0.02, 300)
    samples = [(m + common + rng.normal(0, rng.uniform(0.001, 0.02), 300)).tolist() for m in means]
    assert tie_groups(means.tolist(), samples) == slow_groups(means.tolist(), samples)


def test_ties_are_paired_and_may_pass_over_an_entry_between() -> None:
    rng = np.random.default_rng(0)
    common = rng.normal(0, 0.05, 1000)
    steady = lambda mean: (mean + common).tolist()  # noqa: E731
    wide = (0.70 + common + rng.normal(0, 0.1, 1000)).tolist()
    assert tie_groups([0.80, 0.79], [steady(0.80), steady(0.79)]) == [1, 2], (
        "far less apart than intervals are wide"
    )
    assert tie_groups([0.80, 0.79, 0.70], [steady(0.80), steady(0.79), wide]) == [1, 2, 1]


def test_what_varies_over_seeds_is_tied_sooner() -> None:
    """By hand: .02 apart on all resamples alike, and standard errors of .01 each: 1.96 * .0141 = .0277."""
    alike = [[0.80] * 100, [0.78] * 100, [0.77] * 100]
    means = [0.80, 0.78, 0.77]
    assert tie_groups(means, alike) == [1, 2, 3]
    assert tie_groups(means, alike, [0.01, 0.01, 0.01]) == [1, 1, 2]
    assert tie_groups(means, alike, [0.0, 0.0, 0.02]) == [1, 2, 1], "also over an entry between"


def test_what_has_no_replicates_or_no_number_is_in_no_group() -> None:
    some = replicates(0.8)
    assert tie_groups([0.9, 0.8, None, 0.7], [[], some, some, some[:10]]) == [None, 1, None, None]
    assert tie_groups([], []) == []
    assert tie_groups([0.8], [[]]) == [None]
    assert tie_groups([0.8, 0.8], [[None] * 5, [None] * 5]) == [1, 2], "nothing in common, nothing tied"

"""Scores in sixteen bits, and in thirty-two where sixteen change a number."""

from __future__ import annotations

import numpy as np
import pytest
from made_boards import entry
from safetensors.numpy import load

from retune.errors import UserError
from retune.leaderboard.entry import Entry
from retune.leaderboard.scores import Scores, pack, unpack
from retune.leaderboard.untrusted import parse
from retune.results.image_digests import digests, salted

RUNS, MOMENTS, N, LABELS = 2, 3, 40, 4


@pytest.fixture(scope="module")
def belongs(small_board) -> Entry:
    """An entry whose scores are of that shape."""
    document = entry(small_board / "submissions" / "small-v1" / "valid-1")
    document["data"].update(labels=document["data"]["labels"][:LABELS], n_test=N)
    document["runs"] = document["runs"][:RUNS]
    for run in document["runs"]:
        run["first"], run["prevalence"] = run["first"][:LABELS], run["prevalence"][:LABELS]
        run["auc_matrix"] = [row[:LABELS] for row in run["auc_matrix"]]
    return Entry.model_validate(document)


def scores_of(values) -> Scores:
    items = salted(digests(range(N)), "salt")
    return Scores(items[np.lexsort(items.T[::-1])], values.astype(np.float32))


def shaped(rng) -> np.ndarray:
    return rng.normal(size=(RUNS, MOMENTS, N, LABELS))


@pytest.mark.parametrize("scale", [1e-30, 1e-6, 1.0, 1e6, 1e37])
def test_sixteen_bits_are_as_near_as_they_can_be(belongs: Entry, scale: float) -> None:
    given = scores_of(scale * shaped(np.random.default_rng(0)))
    back = unpack(pack(given), belongs, "here")
    width = np.ptp(given.values.astype(float), axis=2)
    assert (np.abs(back.values - given.values.astype(float)).max(axis=2) <= width / 65535 * 0.51).all()
    for end in (np.min, np.max):
        np.testing.assert_allclose(end(back.values, axis=2), end(given.values, axis=2), rtol=1e-6)
    np.testing.assert_array_equal(back.items, given.items)


def test_thirty_two_bits_are_the_scores(belongs: Entry) -> None:
    given = scores_of(shaped(np.random.default_rng(1)))
    np.testing.assert_array_equal(unpack(pack(given, exact=True), belongs, "here").values, given.values)


def test_constants_and_the_two_ends_stay(belongs: Entry) -> None:
    values = shaped(np.random.default_rng(2))
    values[0, 0, :, 0], values[0, 1, :, 1], values[1, :, :, 2] = 0.3, -np.float32(3e38), 0.0
    values[1, 0, :, 3] = np.where(np.arange(N) % 2, -1.0, 1.0)
    back = unpack(pack(scores_of(values)), belongs, "here").values
    for place in (
        (0, 0, slice(None), 0),
        (0, 1, slice(None), 1),
        (1, slice(None), slice(None), 2),
        (1, 0, slice(None), 3),
    ):
        np.testing.assert_array_equal(back[place], values.astype(np.float32)[place])


def test_equal_scores_stay_equal_and_none_changes_places(belongs: Entry) -> None:
    values = np.round(shaped(np.random.default_rng(3)), 1)
    back = unpack(pack(scores_of(values)), belongs, "here").values
    for run, moment, label in np.ndindex(RUNS, MOMENTS, LABELS):
        one, other = values[run, moment, :, label], back[run, moment, :, label]
        order = np.argsort(one, kind="stable")
        assert (np.sign(np.diff(one[order])) == np.sign(np.diff(other[order]))).all()


def test_anyone_can_read_it() -> None:
    given = scores_of(shaped(np.random.default_rng(4)))
    arrays = load(pack(given))
    assert {name: (a.dtype.name, a.shape) for name, a in arrays.items()} == {
        "items": ("uint8", (N, 16)),
        "scores": ("uint16", (RUNS, LABELS, MOMENTS, N)),
        "range": ("float32", (RUNS, LABELS, MOMENTS, 2)),
    }


@pytest.mark.parametrize("swapped", [(0, 1), (0, N - 1), (N // 2, N // 2 + 1), (N - 2, N - 1)])
def test_items_out_of_order_are_found_wherever_they_are(belongs: Entry, swapped: tuple[int, int]) -> None:
    given = scores_of(shaped(np.random.default_rng(5)))
    items = given.items.copy()
    items[[*swapped]] = items[[*reversed(swapped)]]
    with pytest.raises(UserError, match="not distinct and ascending"):
        unpack(pack(Scores(items, given.values)), belongs, "here")


def test_order_is_that_of_all_sixteen_bytes(belongs: Entry) -> None:
    given = scores_of(shaped(np.random.default_rng(6)))
    items = np.zeros((N, 16), np.uint8)
    items[:, 15] = np.arange(N) + 200  # differ in the last byte only, some above 127
    items[N // 2 :, 7] = 1
    unpack(pack(Scores(items, given.values)), belongs, "here")
    for wrong in ([*range(N)][::-1], [1, 0, *range(2, N)], [0, 0, *range(2, N)]):
        with pytest.raises(UserError, match="not distinct and ascending"):
            unpack(pack(Scores(items[wrong], given.values)), belongs, "here")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b'{"a": [1, -0.5e3, true, null, "\\u00e9\\"]["]}', {"a": [1, -500.0, True, None, 'é"][']}),
        (b'"[[[[[[[[[[[[[[[[[[[["', "[[[[[[[[[[[[[[[[[[[["),
        (b"[" * 16 + b"]" * 16, None),
        (b'["\\\\", "]"]', ["\\", "]"]),
    ],
)
def test_honest_json_is_read(text: bytes, value: object) -> None:
    found = parse(text, "here", most=1000)
    assert value is None or found == value


@pytest.mark.parametrize(
    "text", [b"[" * 17 + b"]" * 17, b'"\\"", ' + b"[" * 17, b'{"a":' * 17 + b"1" + b"}" * 17]
)
def test_deep_json_is_not(text: bytes) -> None:
    with pytest.raises(UserError, match="nested more than 16 deep"):
        parse(text, "here", most=1000)

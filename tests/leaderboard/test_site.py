"""The page of the leaderboard: what it says, what it leaves out, what it never does."""

from __future__ import annotations

import http.client
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from leaderboard.made_entries import (
    CLASS,
    DATA,
    LABELS,
    NIH,
    STEPS,
    add,
    document,
    empty,
    packaged,
    published,
    replicates,
    small,
    spoil,
)

from retune.cli.main import main
from retune.errors import MissingPackage, StorageError, UserError
from retune.leaderboard.board import Board
from retune.leaderboard.entry import Entry
from retune.leaderboard.serve import serving
from retune.leaderboard.site import Built, build
from retune.leaderboard.site.command import run_commands, submit_command
from retune.leaderboard.site.matrix import matrices
from retune.leaderboard.site.ties import tie_groups
from retune.metrics import forgetting


class Parsed(HTMLParser):
    """What a browser would make of a page: elements with attributes, and text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {key: value or "" for key, value in attrs}))

    def handle_data(self, data: str) -> None:
        self.text += data

    def links(self) -> list[str]:
        return [a["href"] for _, a in self.elements if "href" in a] + [
            a["src"] for _, a in self.elements if "src" in a
        ]


def parsed(file: Path) -> Parsed:
    return Parsed(file.read_text(encoding="utf-8"))


def rows(page: Path) -> list[list[str]]:
    """Text of the cells of the first table."""
    body = page.read_text(encoding="utf-8").partition("<tbody>")[2].partition("</tbody>")[0]
    cells = [re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row, re.DOTALL) for row in body.split("</tr>")[:-1]]
    return [[" ".join(Parsed(cell).text.split()) for cell in row] for row in cells]


def built(board: Path, out: Path) -> tuple[Path, Built]:
    found = build(board, out)
    return out, found


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    build(small(folder / "board"), folder / "site")
    return folder / "site"


def content(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()}


# What it says


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
        "claimed": "–", "best": "1=", "close": "1=", "other backbone": "2", "cheap": "3", "replayed": "4",
        "undefined": "–", "joint": "–",
    }  # fmt: skip
    order = list(ranks)
    assert order.index("claimed") < order.index("best"), "sorted by final AUC"
    assert order[-1] == "joint"


def test_the_numbers_of_a_row_are_those_of_the_entry(site: Path) -> None:
    row = next(row for row in rows(site / "tracks" / f"{CLASS}.html") if row[1].startswith("replayed"))
    assert row[2:] == [
        ".780 ± .002.765 to .795", "recomputed", ".810 ± .002.795 to .825",
        ".010 ± .000−.005 to .025", "3", "phantom-clip", "1,806", "0.50 s", "200 features, 102 kB",
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
    lost = [column.lost for column in matrix.columns if column.lost is not None]
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


# Ties


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


def test_what_has_no_replicates_or_no_number_is_in_no_group() -> None:
    some = replicates(0.8)
    assert tie_groups([0.9, 0.8, None, 0.7], [[], some, some, some[:10]]) == [None, 1, None, None]
    assert tie_groups([], []) == []
    assert tie_groups([0.8], [[]]) == [None]
    assert tie_groups([0.8, 0.8], [[None] * 5, [None] * 5]) == [1, 2], "nothing in common, nothing tied"


# Strangers

# A shell reads some of these: where quoting fails, they may leave a file and no worse.
HOSTILE = (
    '" onmouseover="alert(1)', "' autofocus onfocus='alert(1)", "{{ 7 * 7 }}", "{% raw %}", "&lt;script&gt;alert(1)",
    "--help", "$(touch pwned)", "; touch pwned #", "\\u003cscript", "https://example.org/%22%3E", "]]", "Ünïcödé ﷽",
)  # fmt: skip


def test_text_that_looks_hostile_shows_as_it_is_written(tmp_path: Path) -> None:
    board = empty(tmp_path / "board")
    said = {"authors": list(HOSTILE), "note": HOSTILE[0], "paper": "https://example.org/a?b=1&c=%22%27"}
    strategy = {"name": HOSTILE[0], "settings": {text: [text, {"x": text}] for text in HOSTILE}}
    add(board, document(name="hostile", method=said, strategy=strategy, backbone=HOSTILE[1]), None)
    add(board, document(name="b"), "recomputed", remarks=list(HOSTILE))
    out, found = built(board, tmp_path / "site")
    assert found.refused == ()
    for name in (
        f"entries/{CLASS}/hostile-1.html",
        f"entries/{CLASS}/b-1.html",
        f"tracks/{CLASS}.html",
        "entries.html",
    ):
        page = parsed(out / name)
        assert {key for _, attributes in page.elements for key in attributes if key.startswith("on")} == set()
        assert all(
            a.get("src", "").startswith("../") or "assets/" in a.get("src", "")
            for t, a in page.elements
            if t == "script"
        )
        assert "autofocus" not in {key for _, attributes in page.elements for key in attributes}
    text = parsed(out / f"entries/{CLASS}/hostile-1.html").text
    assert all(one in text for one in HOSTILE)
    assert all(one in parsed(out / f"entries/{CLASS}/b-1.html").text for one in HOSTILE)
    outside = [
        a
        for t, a in parsed(out / f"entries/{CLASS}/hostile-1.html").elements
        if a.get("href", "").startswith("http")
    ]
    assert outside
    assert all(a["rel"] == "nofollow noopener noreferrer" for a in outside)


def test_templates_escape_even_what_no_submission_may_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Were intake to let markup through, it would still be text."""
    bad = "</code><script>alert(1)</script><img src=x onerror=alert(1)>\u202e\x00"
    board = empty(tmp_path / "board")
    add(board, document(name="a"))
    import retune.leaderboard.site.view as view

    honest = view.read

    def careless(folder: Path, *, scores: bool = True) -> Any:
        submission = honest(folder, scores=scores)
        entry = submission.entry
        parts = {
            "method": entry.method.model_copy(
                update=dict.fromkeys(("name", "note"), bad) | {"authors": [bad]}
            ),
            "strategy": entry.strategy.model_copy(
                update={"name": bad, "origin": bad, "settings": {bad: bad}}
            ),
            "backbone": entry.backbone.model_copy(
                update={"name": bad, "pretraining_data": [bad], "licence": bad}
            ),
            "prompts": entry.prompts.model_copy(update={"name": bad}),
            "data": entry.data.model_copy(update={"labels": [f"{bad}{k}" for k in range(len(LABELS))]}),
        }
        monkeypatch.setattr(Entry, "name", "a-1")
        return view_submission(submission, entry.model_copy(update=parts))

    def view_submission(submission: Any, entry: Entry) -> Any:
        return type(submission)(entry, submission.digest, None)

    monkeypatch.setattr(view, "read", careless)
    out, found = built(board, tmp_path / "site")
    assert found.entries == 1
    for name in (f"entries/{CLASS}/a-1.html", f"tracks/{CLASS}.html", "entries.html", "index.html"):
        page = parsed(out / name)
        assert all(a.get("src") for t, a in page.elements if t == "script"), name
        assert not any(t == "img" for t, _ in page.elements), name
        raw = (out / name).read_text(encoding="utf-8")
        assert "alert(1)" in raw
        assert "\u202e" not in raw
        assert "\x00" not in raw


def test_pages_ask_for_nothing_from_elsewhere_and_every_link_leads_somewhere(site: Path) -> None:
    for file in site.rglob("*.html"):
        page = parsed(file)
        policy = next(
            a["content"] for t, a in page.elements if a.get("http-equiv") == "Content-Security-Policy"
        )
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
        assert "unsafe" not in policy
        assert not any("style" in a or t == "style" for t, a in page.elements), "the policy would forbid it"
        for tag, attributes in page.elements:
            for key in ("href", "src"):
                address = attributes.get(key, "")
                if address.startswith("https://"):
                    assert tag == "a"
                elif address and not address.startswith("#"):
                    assert (file.parent / address.partition("#")[0]).resolve().is_file(), f"{file}: {address}"


def test_a_refused_entry_is_named_and_stops_no_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    board = empty(tmp_path / "board")
    add(board, document(name="good"))
    add(board, document(name="markup"))
    spoil(board, CLASS, "markup-1", '"note": null', '"note": "<script>"')
    add(board, document(name="elsewhere"), None)
    spoil(board, CLASS, "elsewhere-1", '"n_test": 1214', '"n_test": 12')
    add(board, document(name="broken record"))
    Board(board).record(CLASS, "broken-record-1").write_text("{}")
    assert (
        main(["leaderboard", "build", "--board", str(board), "--out", str(tmp_path / "site"), "--json"]) == 0
    )
    told = capsys.readouterr()
    document_ = json.loads(told.out)
    assert document_["entries"] == 2
    assert len(document_["refused"]) == 2
    assert "markup-1" in told.err
    assert "<script" not in told.err.replace("holds '<'", "")
    assert "elsewhere-1" in told.err
    assert "broken-record-1" in told.err
    assert rows(tmp_path / f"site/tracks/{CLASS}.html")[0][1] == "broken record 1"
    assert not (tmp_path / f"site/entries/{CLASS}/markup-1.html").exists()


# Edges


def test_an_empty_leaderboard_has_a_page(tmp_path: Path) -> None:
    out, found = built(empty(tmp_path / "board"), tmp_path / "site")
    assert found.entries == 0
    assert "There are no entries yet." in parsed(out / "index.html").text
    assert "There are no entries yet." in parsed(out / f"tracks/{CLASS}.html").text


def test_undefined_numbers_and_long_names_are_shown(tmp_path: Path) -> None:
    board = empty(tmp_path / "board")
    add(board, document(name="n" * 60, auc=None, seeds=(4,), method={"version": "1.22222222222222222"}))
    out, found = built(board, tmp_path / "site")
    assert found.entries == 1
    assert rows(out / f"tracks/{CLASS}.html")[0][2] == "–"


def test_a_board_that_is_none_is_told_in_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "site"
    assert main(["leaderboard", "build", "--board", str(tmp_path), "--out", str(out)]) == 2
    assert "no submissions here" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [], "nothing is left behind"


def test_missing_packages_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("retune.leaderboard.site.find_spec", lambda name: None if name == "jinja2" else name)
    with pytest.raises(MissingPackage, match=r"jinja2, not installed; pip install 'retune\[leaderboard\]'"):
        build(tmp_path, tmp_path / "site")


# The folder


def test_the_same_leaderboard_gives_the_same_bytes(tmp_path: Path, site: Path) -> None:
    board = small(tmp_path / "somewhere" / "else")
    out, _ = built(board, tmp_path / "other" / "site")
    assert content(out) == content(site)
    everything = b"".join(content(out).values())
    assert str(tmp_path).encode() not in everything


def test_a_site_is_replaced_whole(tmp_path: Path) -> None:
    board = empty(tmp_path / "board")
    add(board, document(name="a"))
    build(board, tmp_path / "site")
    add(board, document(name="b"))
    (board / "submissions" / CLASS / "a-1" / "entry.json").unlink()
    out, found = built(board, tmp_path / "site")
    assert [f.name for f in (out / "entries" / CLASS).iterdir()] == ["b-1.html"]
    assert len(found.refused) == 1
    assert {f.name for f in tmp_path.iterdir()} == {"board", "site"}


@pytest.mark.parametrize("kind", ["folder", "site with more", "file", "link", "folder in a site"])
def test_what_is_no_site_is_never_replaced(tmp_path: Path, kind: str) -> None:
    board, out = empty(tmp_path / "board"), tmp_path / "site"
    if kind == "file":
        out.write_text("mine")
    elif kind == "link":
        (tmp_path / "mine").mkdir()
        out.symlink_to(tmp_path / "mine")
    elif kind == "folder":
        out.mkdir()
        (out / "thesis.txt").write_text("mine")
    else:
        build(board, out)
        if kind == "site with more":
            (out / "CNAME").write_text("mine")
        else:
            (out / "assets" / ".git").mkdir()
    before = content(out) if out.is_dir() else out.read_bytes()
    with pytest.raises(UserError, match=r"site: (is|holds)"):
        build(board, out)
    assert (content(out) if out.is_dir() else out.read_bytes()) == before
    assert not list(tmp_path.glob(".partial-*"))


def test_an_empty_folder_may_become_a_site(tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    out, _ = built(empty(tmp_path / "board"), tmp_path / "site")
    assert (out / "index.html").is_file()


def test_an_older_site_stands_where_building_fails(tmp_path: Path) -> None:
    board = empty(tmp_path / "board")
    out, _ = built(board, tmp_path / "site")
    before = content(out)
    (board / "tracks.toml").write_text("not toml")
    with pytest.raises(UserError, match="TOML"):
        build(board, out)
    assert content(out) == before
    assert not list(tmp_path.glob(".partial-*"))


def test_an_older_site_goes_back_where_its_place_cannot_be_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    board = empty(tmp_path / "board")
    out, _ = built(board, tmp_path / "site")
    before = content(out)
    rename = Path.rename

    def fails(self: Path, target: Path) -> Path:
        if self.parent.name.startswith(".partial-") and self.name == "site":
            raise OSError(28, "no space left")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fails)
    with pytest.raises(StorageError):
        build(board, out)
    assert content(out) == before


# The command that repeats an entry


def spec_of(command: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """What the command line makes of a command."""
    seen: list[Any] = []

    def prepare(spec: Any, folder: Path, **_: Any) -> Any:
        seen.append((spec, folder))
        raise UserError("enough")

    monkeypatch.setattr("retune.runner.prepare", prepare)
    words = shlex.split(command.replace("\\\n", " "))
    assert words[:3] == ["OMP_NUM_THREADS=1", "retune", "run"]
    assert main(words[2:]) == 2
    return seen[0]


def test_the_command_gives_the_settings_of_the_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    from retune.plugins import registry
    from retune.settings import make, values_of

    cls = registry("strategies").load("replay")
    wanted = values_of(cls()) | {"lr": 0.0123, "capacity": 7}
    entry = Entry.model_validate(document(name="a", strategy={"name": "replay", "settings": wanted}))
    track = packaged()[CLASS]
    (command,) = run_commands(entry, track)
    assert "--seeds 3" in command
    spec, folder = spec_of(command, monkeypatch)
    assert (spec.scenario, spec.strategy, spec.data, spec.backbone) == (
        track.scenario,
        "replay",
        "phantom",
        "phantom-clip",
    )
    given = {
        key.removeprefix("strategy."): v for key, v in spec.settings.items() if key.startswith("strategy.")
    }
    assert values_of(make(cls, given, owner="test")) == wanted
    scenario = {key[9:]: v for key, v in spec.settings.items() if key.startswith("scenario.")}
    assert (
        values_of(make(registry("scenarios").load(track.scenario), scenario, owner="test"))
        == track.settings()[1]
    )
    from retune.data.source import DataSource

    data = {key[5:]: v for key, v in spec.settings.items() if key.startswith("data.")}
    assert DataSource.make("phantom", None, data).settings == track.settings()[0]
    assert folder == Path(f"runs/{CLASS}/a-1/seed-0")


def test_a_setting_that_is_none_is_read_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    from retune.plugins import registry
    from retune.settings import make, values_of

    entry = Entry.model_validate(document(name="a"))
    assert entry.strategy.settings["penalty"] is None
    spec, _ = spec_of(run_commands(entry, packaged()[CLASS])[0], monkeypatch)
    given = {
        key.removeprefix("strategy."): v for key, v in spec.settings.items() if key.startswith("strategy.")
    }
    assert (
        values_of(make(registry("strategies").load("ridge"), given, owner="test")) == entry.strategy.settings
    )


def test_seeds_and_searched_settings_each_have_their_command(monkeypatch: pytest.MonkeyPatch) -> None:
    odd = Entry.model_validate(document(name="a", seeds=(3, 1)))
    commands = run_commands(odd, packaged()[CLASS])
    assert [spec_of(c, monkeypatch)[0].seed for c in commands] == [3, 1]
    made = document(name="a")
    for k, run in enumerate(made["runs"]):
        run["settings"] = {"penalty": float(k + 1)}
    made["strategy"] |= {"settings": {}, "searched": True}
    commands = run_commands(Entry.model_validate(made), packaged()[CLASS])
    assert [spec_of(c, monkeypatch)[0].settings["strategy.penalty"] for c in commands] == [
        "1.0",
        "2.0",
        "3.0",
    ]


@pytest.mark.parametrize("text", HOSTILE)
def test_no_text_of_an_entry_becomes_a_command_of_its_own(text: str, tmp_path: Path) -> None:
    made = document(
        name="a",
        backbone=text,
        strategy={"name": text, "settings": {"key": text, "more": [text]}},
        method={"note": text},
    )
    entry = Entry.model_validate(made)
    for command in [*run_commands(entry, packaged()[CLASS]), submit_command(entry)]:
        show = f"{sys.executable} -c 'import sys, json; print(json.dumps(sys.argv[1:]))'"
        # A shell reads it as one command whose words are whole.
        shown = command.replace("OMP_NUM_THREADS=1 ", "").replace("retune", show, 1)
        done = subprocess.run(["sh", "-c", shown], capture_output=True, text=True, cwd=tmp_path, check=True)
        words = json.loads(done.stdout)
        assert done.stdout.count("\n") == 1
        assert any(text in word for word in words)
        assert text not in [
            w for k, w in enumerate(words) if text.startswith("-") and words[k - 1].startswith("--")
        ]
    assert list(tmp_path.iterdir()) == []


def test_real_data_asks_for_its_folder(site: Path) -> None:
    text = parsed(site / f"entries/{NIH}/real-1.html").text
    assert "--root DIR" in text
    assert "retune leaderboard verify nih-class-incremental-v1/real-1 --rerun \\\n  --root DIR" in text
    assert "DIR is the folder of your copy of the data" in text
    assert "--root" not in parsed(site / f"entries/{CLASS}/best-1.html").text


# Serving


@contextmanager
def server(folder: Path) -> Iterator[int]:
    with serving(folder, 0) as (address, serve):
        assert address.startswith("http://127.0.0.1:")
        threading.Thread(target=serve, daemon=True).start()
        yield int(address.rsplit(":", 1)[1].strip("/"))


def ask(
    port: int, path: str, host: str = "127.0.0.1", method: str = "GET"
) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request(method, path, headers={"Host": f"{host}:{port}"})
    answer = connection.getresponse()
    return answer.status, dict(answer.getheaders()), answer.read()


def test_a_site_is_served_with_its_types_and_nothing_else_is(tmp_path: Path) -> None:
    out, _ = built(small(tmp_path / "board"), tmp_path / "site")
    (tmp_path / "secret.html").write_text("secret")
    (out / "link.html").symlink_to(tmp_path / "secret.html")
    (out / "away").symlink_to(tmp_path)
    (out / "notes.txt").write_text("mine")
    (out / ".hidden.html").write_text("secret")
    with server(out) as port:
        status, headers, body = ask(port, "/")
        assert (status, body) == (200, (out / "index.html").read_bytes())
        assert headers["Content-Type"] == "text/html; charset=utf-8"
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert ask(port, "/assets/vega.js")[1]["Content-Type"] == "text/javascript; charset=utf-8"
        assert ask(port, f"/tracks/{CLASS}.html?x=1")[0] == 200
        assert ask(port, "/", method="HEAD")[2] == b""
        for path in ("/assets/", "/assets", "/entries", "/.retune-site", "/nothing.html", "/../secret.html", "/link.html",
                     "/.hidden.html",
                     "/%2e%2e/secret.html", "/..%2fsecret.html", "/away/secret.html", "//secret.html", "/notes.txt",
                     "/assets/..%2f..%2fsecret.html", "/%00", f"/{out}/index.html", "/index.html/"):  # fmt: skip
            status, _, body = ask(port, path)
            assert status == 404, path
            assert b"secret" not in body
        assert ask(port, "/", host="example.org")[0] == 404, "a page elsewhere cannot pretend to be this one"
        assert ask(port, "/", method="POST")[0] == 501


def test_only_a_site_is_served(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["leaderboard", "serve", str(tmp_path)]) == 2
    assert "is no site" in capsys.readouterr().err


def test_a_port_that_is_taken_is_told_in_a_line(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert main(["leaderboard", "serve", str(site), "--port", str(port)]) == 2
    told = capsys.readouterr().err
    assert f"cannot listen on port {port}" in told
    assert told.count("\n") == 1
    assert main(["leaderboard", "serve", str(site), "--port", "99999"]) == 2


def test_serving_a_board_ends_cleanly_with_an_interrupt(tmp_path: Path) -> None:
    board = small(tmp_path / "board")
    command = [
        sys.executable,
        "-m",
        "retune.cli.main",
        "leaderboard",
        "serve",
        "--board",
        str(board),
        "--port",
        "0",
    ]
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    environment = os.environ | {"PYTHONUNBUFFERED": "1", "TMPDIR": str(scratch)}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        port = int(re.match(r"http://127\.0\.0\.1:(\d+)/", line)[1])  # type: ignore[index]
        assert ask(port, f"/entries/{CLASS}/best-1.html")[0] == 200
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=20)
    finally:
        process.kill()
    assert process.returncode == 0
    assert "Traceback" not in told
    assert list(scratch.iterdir()) == [], "its temporary folder is gone"


def test_help_loads_neither_torch_nor_templates_nor_charts() -> None:
    script = (
        "import sys; from retune.cli.main import main; main(['leaderboard', 'build', '--help']);"
        "found = {'torch', 'jinja2', 'altair', 'vl_convert', 'numpy'} & set(sys.modules);"
        "sys.exit(str(found) if found else 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "--out" in done.stdout


def test_building_needs_no_torch(tmp_path: Path) -> None:
    board = small(tmp_path / "board")
    script = (
        "import sys; from retune.cli.main import main; code = main(['leaderboard', 'build', '--board', sys.argv[1],"
        "'--out', sys.argv[2]]); sys.exit(code or ('torch' if 'torch' in sys.modules else 0))"
    )
    words = [sys.executable, "-c", script, str(board), str(tmp_path / "site")]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "10 entries on 3 tracks" in done.stdout


def test_made_entries_are_what_a_submission_is(tmp_path: Path) -> None:
    board = small(tmp_path / "board")
    assert published(board, DATA, "best-1")["track"] == DATA

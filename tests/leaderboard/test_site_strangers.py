"""What strangers write is text on a page and a word in a command, whatever it looks like."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from leaderboard.made_entries import (
    CLASS,
    HOSTILE,
    LABELS,
    add,
    document,
    empty,
    spoil,
)
from leaderboard.site_pages import built, parsed, rows

from retune.cli.main import main
from retune.leaderboard.board import Board
from retune.leaderboard.entry import Entry


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


def test_numbers_that_do_not_follow_from_each_other_are_not_published(tmp_path: Path) -> None:
    """Without data it can be told, and nobody needs to have verified it."""
    board = empty(tmp_path / "board")
    made = document(name="doctored")
    made["metrics"]["final_auc"]["mean"] += 0.07
    add(board, made, None)
    add(board, document(name="honest"), None)
    out, found = built(board, tmp_path / "site")
    assert found.entries == 1
    assert "doctored-1: does not hold: metrics.final_auc is not the mean over its runs" in found.refused[0]
    assert not (out / f"entries/{CLASS}/doctored-1.html").exists()


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

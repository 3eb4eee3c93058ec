"""What text, links and numbers may be, in whatever field of an entry they stand."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from made_boards import entry

from retune.errors import UserError
from retune.leaderboard.fields import plain_text, slug, web_address
from retune.leaderboard.intake import entry_of

SCRIPT = (
    "<script>alert(1)</script>", "</title><svg onload=alert(1)>", "<!--", "javascript:alert(1)", "JAVASCRIPT : x",
    "vbscript:x", "data:text/html,x", "`x`", "a\nb", "a\rb", "a\u2028b", "a\0b", "a\x1b]0;x\x07", "a\u200db", "a\u2066b",
    "\ufeffa", "a\U000e0041b",
)  # fmt: skip
LITERAL = (
    "{{ 7 * 7 }}", "{% raw %}", "${7*7}", "onerror=alert(1)", "&lt;b&gt; &amp; &quot;", "O'Brien \"x\"",
    "\\u003cscript\\u003e", "a; rm -rf /", "'; DROP TABLE entries; --", "../../etc/passwd", "more data: 5 %",
    "Å Müller-Lüdenscheidt 李明 Иванов محمد",
    "=HYPERLINK(1)", "%3Cscript%3E",
)  # fmt: skip


@pytest.fixture(scope="module")
def good(small_board: Path) -> dict[str, Any]:
    document = entry(small_board / "submissions" / "small-v1" / "valid-1")
    document["method"].update(paper="https://example.org/a", code="https://example.org/b", note="a note")
    document["strategy"]["settings"] = {"a": "text", "b": ["text", {"c": "text"}]}
    document["backbone"]["pretraining_data"] = ["something"]
    return document


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place of a text in a document; of a list, in its first two."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from places(inner, (*at, key))
    elif isinstance(value, list):
        for k, inner in enumerate(value[:2]):
            yield from places(inner, (*at, k))
    elif isinstance(value, str):
        yield at


def with_text(document: dict[str, Any], place: tuple[Any, ...], text: str) -> bytes:
    changed = copy.deepcopy(document)
    at: Any = changed
    for step in place[:-1]:
        at = at[step]
    at[place[-1]] = text
    return json.dumps(changed, ensure_ascii=False).encode("utf-8", "surrogatepass")


def test_script_is_refused_in_every_field_in_a_line_that_names_it(good: dict[str, Any]) -> None:
    found = list(places(good))
    assert len(found) > 40
    for place in found:
        for text in SCRIPT:
            with pytest.raises(UserError) as told:
                entry_of(with_text(good, place, text), "here")
            line = str(told.value)
            assert re.fullmatch(r"here: [ -~]+", line)
            assert place[0] in line


def test_script_is_refused_as_a_key(good: dict[str, Any]) -> None:
    for text in SCRIPT:
        for path in (
            ("strategy", "settings"),
            ("data", "settings"),
            ("runs", 0, "versions"),
            (),
            ("method",),
        ):
            changed = copy.deepcopy(good)
            at: Any = changed
            for step in path:
                at = at[step]
            at[text] = "1"
            with pytest.raises(UserError) as told:
                entry_of(json.dumps(changed).encode(), "here")
            assert re.fullmatch(r"here: [ -~]+", str(told.value))


def test_what_only_looks_like_script_is_text(good: dict[str, Any]) -> None:
    for text in LITERAL:
        assert plain_text(text) == text
        read = entry_of(with_text(good, ("method", "note"), text), "here")
        assert read.method.note == text
        assert json.loads(read.to_json())["method"]["note"] == text


@pytest.mark.parametrize(
    "link",
    [
        "https://arxiv.org/abs/2301.00001v2", "http://example.org", "https://example.org:8080/a/b?c=d&e=%20#f",
        "https://xn--mnchen-3ya.de/", "https://a.b-c.org/~x/(y);z,!*",
    ],
)  # fmt: skip
def test_links_that_are_links(link: str) -> None:
    assert web_address(link) == link


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("RE-tune", "re-tune"), ("der++", "der-plus-plus"), ("avalanche:EWC", "avalanche-ewc"), ("A (b), v2.", "a-b-v2"),
        ("x__y", "x-y"), ("a/../b", "a-b"), ("A", "a"),
    ],
)  # fmt: skip
def test_a_name_as_a_folder(name: str, folder: str) -> None:
    assert slug(name) == folder


def test_an_entry_written_again_is_the_same(small_board: Path) -> None:
    content = (small_board / "submissions" / "small-v1" / "valid-1" / "entry.json").read_bytes()
    assert entry_of(content, "here").to_json().encode() == content

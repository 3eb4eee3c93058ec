"""Reading, checking, choosing from and writing prompt banks."""

from __future__ import annotations

import copy
import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import retune.prompts
from retune.errors import MissingFiles, StorageError, UnknownName, UserError
from retune.prompts import Prompt, PromptBank, Source, load, names

SOURCE = {"kind": "hand-written", "model": "A. Reader", "instruction": "Write.", "date": "2026-01-31"}


def row(**changes: Any) -> dict[str, Any]:
    fields = {"finding": "Edema", "polarity": "positive", "text": "Pulmonary edema.", "source": dict(SOURCE)}
    return {**fields, **changes}


def source(**changes: Any) -> dict[str, Any]:
    return row(source={**SOURCE, **changes})


def without(fields: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if key != name}


def prompt(finding: str, polarity: Any, text: str) -> Prompt:
    return Prompt(finding, polarity, text, Source("A. Reader", "Write.", "2026-01-31", "hand-written"))


BANK = PromptBank(
    "tiny",
    (
        prompt("Edema", "positive", "Pulmonary edema."),
        prompt("Mass", "negative", "No mass."),
        prompt("Edema", "negative", "No edema."),
        prompt("Mass", "positive", "Lung mass."),
        prompt("Edema", "positive", "Œdème\u2028pulmonaire."),
        prompt("Hardware", "positive", "Hardware."),
    ),
)

GOOD = json.dumps(row(text="Mild edema."))

FAULTS = {
    "bad JSON": ('{"finding": "Edema",', "bad JSON at column 21", "write the row as one JSON object"),
    "deep JSON": ("[" * 100_000, "bad JSON", "write the row as one JSON object"),
    "long number": ('{"finding": ' + "1" * 5000 + "}", "bad JSON", "write the row as one JSON object"),
    "no object": ("[1, 2]", "the row is [1, 2]", "write a JSON object with finding, polarity, text, source"),
    "missing field": (without(row(), "text"), "the row lacks 'text'", "add it"),
    "unknown field": (row(colour=1), 'the row has an unknown field "colour"', "known: finding, polarity"),
    "field twice": ('{"text": "a", "text": "b"}', 'field "text" stands twice', "keep one of the two"),
    "unknown polarity": (
        row(polarity="neutral"),
        "field 'polarity' is \"neutral\"",
        "write one of positive, negative",
    ),
    "polarity of wrong type": (row(polarity=["positive"]), "field 'polarity' is [", "write a string"),
    "empty text": (row(text="  "), "field 'text' is empty", "fill it in or delete the row"),
    "text of wrong type": (row(text=3), "field 'text' is 3", "write a string in double quotes"),
    "null text": (row(text=None), "field 'text' is null", "write a string in double quotes"),
    "spaced finding": (
        row(finding="Edema "),
        "field 'finding' starts or ends with a space",
        "delete the space",
    ),
    "empty finding": (row(finding=""), "field 'finding' is empty", "fill it in or delete the row"),
    "half a character": (row(text="a\ud800"), "field 'text' holds half of a character", "escape"),
    "source of wrong type": (
        row(source="me"),
        "the field 'source' is \"me\"",
        "write a JSON object with kind, model",
    ),
    "missing source field": (
        row(source=without(SOURCE, "date")),
        "the field 'source' lacks 'date'",
        "add it",
    ),
    "unknown source field": (source(mood="good"), 'unknown field "mood"', "known: kind, model"),
    "unknown kind": (
        source(kind="oracle"),
        "'source.kind' is \"oracle\"",
        "one of language-model, hand-written",
    ),
    "empty model": (source(model=""), "field 'source.model' is empty", "fill it in"),
    "empty instruction": (source(instruction=""), "field 'source.instruction' is empty", "fill it in"),
    "no date": (source(date="May 2026"), "field 'source.date' is no date", "write it as YYYY-MM-DD"),
    "impossible date": (
        source(date="2026-02-30"),
        "field 'source.date' is no date",
        "write it as YYYY-MM-DD",
    ),
    "short date": (source(date="20260131"), "field 'source.date' is no date", "write it as YYYY-MM-DD"),
    "duplicate": (
        row(text="Mild edema.", source={**SOURCE, "model": "B. Reader"}),
        "the same positive prompt of 'Edema' as in row 1",
        "delete one of the two rows",
    ),
    "long value": (row(polarity="x" * 5000), "field 'polarity' is \"xxx", "write one of"),
    "line break in a name": (row(**{"a\nb": 1}), "unknown field", "known: finding"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_told_with_file_row_and_mend(fault: str, tmp_path: Path) -> None:
    bad, what, fix = FAULTS[fault]
    path = tmp_path / "mine.jsonl"
    # the blank row counts, as it does in an editor
    path.write_text(
        f"{GOOD}\n\n{bad if isinstance(bad, str) else json.dumps(bad)}\n{GOOD}\n", encoding="utf-8"
    )
    with pytest.raises(UserError) as caught:
        PromptBank.read(path)
    message = str(caught.value)
    assert message.startswith(f"{path}:3: ")
    assert what in message
    assert fix in message.split("; ", 1)[1]
    assert len(message.splitlines()) == 1
    assert len(message) < len(str(path)) + 250
    assert caught.value.exit_code == 2


def test_a_row_that_is_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_bytes(GOOD.encode() + b'\n{"finding": "\xe9"}\n')
    with pytest.raises(UserError, match=r"mine\.jsonl:2: the row is not UTF-8; save the file as UTF-8$"):
        PromptBank.read(path)


def test_an_empty_file_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    empty = tmp_path / "empty.jsonl"
    empty.write_text("\n")
    with pytest.raises(UserError, match="holds no prompts; write one JSON object per row"):
        PromptBank.read(empty)
    with pytest.raises(MissingFiles, match="no such prompt bank; check the path"):
        PromptBank.read(tmp_path / "none.jsonl")
    with pytest.raises(UserError, match="cannot be read"):
        PromptBank.read(tmp_path)


def test_values_made_in_python_are_checked_too() -> None:
    with pytest.raises(UserError, match="field 'polarity'"):
        prompt("Edema", "neutral", "Edema.")
    with pytest.raises(UserError, match=r"source\.kind"):
        Source("A", "B", "2026-01-31", "oracle")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="prompt bank 'tiny': positive prompt of 'Edema' stands twice"):
        PromptBank("tiny", (*BANK.prompts, BANK.prompts[0]))


def test_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "tiny.jsonl"
    BANK.write(path)
    assert PromptBank.read(path) == BANK
    assert load(path) == load(str(path)) == BANK
    assert PromptBank.read(path, name="other").name == "other"
    assert [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n")[:-1]] == [
        one.row() for one in BANK.prompts
    ]


def test_a_byte_order_mark_and_windows_line_ends_are_read(tmp_path: Path) -> None:
    path = tmp_path / "tiny.jsonl"
    BANK.write(path)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert PromptBank.read(path) == BANK


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "tiny.jsonl"
    path.write_text("old")

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match=r"tiny\.jsonl: the disk is full"):
        BANK.write(path)
    assert [file.name for file in tmp_path.iterdir()] == ["tiny.jsonl"]
    assert path.read_text() == "old"


def test_write_replaces_rather_than_rewrites(tmp_path: Path) -> None:
    path = tmp_path / "tiny.jsonl"
    path.write_text("old")
    with path.open() as reader:
        BANK.write(path)
        assert reader.read() == "old"
    assert PromptBank.read(path) == BANK
    assert [file.name for file in tmp_path.iterdir()] == ["tiny.jsonl"]


def test_choosing() -> None:
    assert BANK.findings == ("Edema", "Mass", "Hardware")
    assert len(BANK) == 6
    assert BANK.positive("Edema") == ("Pulmonary edema.", "Œdème\u2028pulmonaire.")
    assert BANK.negative("Edema") == ("No edema.",)
    assert BANK.texts("Mass", "positive") == ("Lung mass.",)
    assert BANK.negative("Hardware") == BANK.positive("Nothing") == ()
    part = BANK.select(["Mass", "Edema"])
    assert part.findings == ("Mass", "Edema")
    assert part.name == "tiny"
    assert [one.text for one in part.prompts] == [
        *("No mass.", "Lung mass."),
        *("Pulmonary edema.", "No edema.", "Œdème\u2028pulmonaire."),
    ]


def test_labels_that_the_bank_lacks_are_named() -> None:
    BANK.require(["Mass", "Edema"])
    BANK.require(["Hardware"], ["positive"])
    with pytest.raises(UserError) as caught:
        BANK.require(["Mass", "Hernia", "Hardware"])
    assert str(caught.value) == (
        "prompt bank 'tiny': no positive prompts for 'Hernia' and no negative prompts for 'Hernia', "
        "'Hardware'; add rows for them to a .jsonl bank and give its path, or choose a bank that has them"
    )
    with pytest.raises(UserError, match="'Hernia'"):
        BANK.select(["Mass", "Hernia"])
    assert BANK.select(["Hardware"]).findings == ("Hardware",)


def test_a_bank_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        BANK.name = "x"  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError):
        BANK.prompts[0].text = "x"  # type: ignore[misc]
    rows = list(BANK.prompts)
    bank = PromptBank("tiny", rows)  # type: ignore[arg-type]
    rows.clear()
    assert bank == BANK


def test_fingerprint_is_of_the_rows_not_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "elsewhere.jsonl"
    shuffled = (dict(reversed(one.row().items())) for one in BANK.prompts)
    path.write_text("\n\n".join(json.dumps(one, separators=(" , ", " : ")) for one in shuffled))
    other = PromptBank.read(path)
    assert other.name != BANK.name
    assert other.fingerprint == BANK.fingerprint
    assert len(BANK.fingerprint) == 64


CHANGES: dict[str, Callable[[list[dict[str, Any]]], object]] = {
    "word": lambda rows: rows[0].update(text="Pulmonary oedema."),
    "finding": lambda rows: rows[0].update(finding="Oedema"),
    "polarity": lambda rows: rows[0].update(polarity="negative"),
    "source": lambda rows: rows[0]["source"].update(date="2026-02-01"),
    "order": lambda rows: rows.reverse(),
    "fewer": lambda rows: rows.pop(),
}


@pytest.mark.parametrize("change", CHANGES)
def test_fingerprint_changes_with_the_content(change: str, tmp_path: Path) -> None:
    rows = copy.deepcopy([one.row() for one in BANK.prompts])
    CHANGES[change](rows)
    path = tmp_path / "tiny.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    assert PromptBank.read(path).fingerprint != BANK.fingerprint


def test_packaged_names_are_listed_without_parsing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json, "loads", None)
    assert set(names()) >= {"language-model", "chexzero", "biovil"}
    assert list(names()) == sorted(names())


def test_an_unknown_bank_is_told_with_the_nearest() -> None:
    with pytest.raises(UnknownName, match="unknown prompt bank 'chexzer'; did you mean chexzero"):
        load("chexzer")


def test_importing_prompts_leaves_torch_alone() -> None:
    code = (
        "import sys, retune.prompts as p; p.load(p.names()[0]); p.PromptBank, p.Prompt, p.Source;"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert (done.stdout, done.stderr) == ("False\n", "")


def test_the_room_shows_what_it_exports() -> None:
    assert set(retune.prompts.__all__) <= set(dir(retune.prompts))
    with pytest.raises(AttributeError, match="nothing"):
        _ = retune.prompts.nothing

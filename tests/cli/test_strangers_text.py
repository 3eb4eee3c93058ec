"""What is printed and written shows names as text, whatever they hold, on every terminal."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import unicodedata
from pathlib import Path
from typing import Any

import pytest

from retune.cli.console import bars, console, plain_table, print_json, say
from retune.cli.main import main
from retune.errors import StrategyError, UserError

VILE = "a\x1b[2J\x9b31m\u202eb\u2028c\u2066d\x00[red]e[/nothing]:smile:"
SHOWN = "a�[2J�31m�b c�d�[red]e[/nothing]:smile:"


def unsafe(text: str) -> set[str]:
    return {c for c in text if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp")} - {"\n"}


def test_a_stranger_s_text_reaches_no_terminal_as_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    out = console()
    table = plain_table()
    table.add_column("name")
    table.add_row(VILE)
    out.print(table)
    out.print(VILE)
    say(VILE)
    with bars() as tell:
        tell(VILE, 0, 1)
    captured = capsys.readouterr()
    assert captured.out.splitlines()[1:] == [SHOWN] * 3
    assert captured.err == f"{SHOWN} ...\n"


def test_a_cell_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    table = plain_table(heads=False)
    table.add_column("name")
    table.add_row("one\nerror: two")
    console().print(table)
    assert capsys.readouterr().out.split("\n") == ["one error: two", ""]


def test_json_escapes_what_cannot_be_seen_and_reads_back_exactly(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({VILE: [VILE, "Ödem \U000e0001", "half \udcff"]})
    out = capsys.readouterr().out
    assert not unsafe(out)
    assert "Ödem" in out
    assert json.loads(out) == {VILE: [VILE, "Ödem \U000e0001", "half \udcff"]}


@pytest.mark.parametrize("error", [UserError(VILE, where=VILE, fix=VILE), StrategyError(f"{VILE}\n{VILE}")])
def test_every_message_is_one_clean_line(error: Exception) -> None:
    assert not unsafe(str(error))
    assert "\n" not in str(error)


@pytest.mark.parametrize(
    "words",
    [
        ["run", "--strategy", VILE.replace("\0", "")],
        ["run", VILE],
        ["show", "dataset", VILE],
        ["prompts", "lint", f"{VILE.replace(chr(0), '')}.jsonl"],
        ["report", VILE.replace("\0", "")],
    ],
)
def test_an_error_line_is_clean(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    assert not unsafe(captured.err)


def bank(path: Path, text: str = "Normal heart.", finding: str = "Edema") -> Path:
    source = {"kind": "hand-written", "model": "m", "instruction": "i", "date": "2026-01-01"}
    rows = [
        {"finding": finding, "polarity": polarity, "text": words, "source": source}
        for polarity, words in (("positive", "There is something."), ("negative", text))
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def test_a_bank_s_names_are_clean_in_tables(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = bank(tmp_path / "b.jsonl", finding=VILE)
    file.write_text(file.read_text().splitlines()[0])
    assert main(["prompts", "lint", str(file)]) == 1
    captured = capsys.readouterr()
    assert "�[2J" in captured.out
    assert not unsafe(captured.out + captured.err)


def test_a_prompt_of_ten_megabytes_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = bank(tmp_path / "b.jsonl", text="no edema " * 1_100_000 + "x")
    assert main(["prompts", "lint", str(file)]) == 2
    assert capsys.readouterr().err.startswith(
        f"error: {file}:2: field 'text' has 9,900,001 characters, more than 10,000; shorten it"
    )


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_terminal_without_a_letter_shows_its_code(
    encoding: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = tmp_path / "Röntgen-胸"
    folder.mkdir()
    monkeypatch.chdir(folder)
    streams: dict[str, Any] = {name: io.BytesIO() for name in ("stdout", "stderr")}
    for name, stream in streams.items():
        monkeypatch.setattr(sys, name, io.TextIOWrapper(stream, encoding=encoding))
    assert main(["new", "strategy", "mine", "--out", str(folder / "mine.py")]) == 0
    assert main(["report", str(folder)]) == 2
    sys.stdout.flush()
    sys.stderr.flush()
    for stream in streams.values():
        assert b"\\u80f8" in stream.getvalue()


class Interrupts:
    """A finder of modules that is interrupted at one of them."""

    def __init__(self, name: str) -> None:
        self.name = name

    def find_spec(self, name: str, *more: Any) -> None:
        if name == self.name:
            raise KeyboardInterrupt


@pytest.mark.parametrize("module", ["retune.cli.app", "retune.errors", "typer"])
def test_an_interruption_while_modules_are_imported_is_told(
    module: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in sys.modules if name in {module, "retune.cli.app"}]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr("retune.cli.app", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Interrupts(module), *sys.meta_path])
    assert main(["--version"]) == 130
    assert capsys.readouterr().err == "error: interrupted; the same command continues\n"


def test_the_way_in_imports_next_to_nothing() -> None:
    code = (
        "import sys; before = set(sys.modules); import retune.cli.main; print(len(set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 15

"""Prompt banks: reading, checking, choosing from and writing them.

A bank is a JSONL file, one prompt per row::

    {"finding": "Edema", "polarity": "positive", "text": "Mild interstitial edema.",
     "source": {"kind": "language-model", "model": "...", "instruction": "...", "date": "2026-11-21"}}

A source may also hold the ``seed`` that a language model drew with.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any, Final, Literal, cast, get_args

from retune.errors import MissingFiles, UnknownName, UserError
from retune.files import read_small, write_whole

Polarity = Literal["positive", "negative"]
Kind = Literal["language-model", "hand-written"]

POLARITIES: Final[tuple[Polarity, ...]] = get_args(Polarity)
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)

_SUFFIX: Final = ".jsonl"
_ROW_FIELDS: Final = ("finding", "polarity", "text", "source")
_SOURCE_FIELDS: Final = ("kind", "model", "instruction", "date")
_LONGEST: Final = {"finding": 500, "text": 10_000}
"""Characters of a field: the time that looking at wording takes grows with them."""


@dataclass(frozen=True)
class Source:
    """Where a prompt comes from.

    Args:
        model: The language model that wrote it, or the person or paper behind a hand-written one.
        instruction: The instruction that the writer followed.
        date: The day it was written, as YYYY-MM-DD.
        kind: Whether a language model or a person wrote it.
        seed: The seed that a language model drew with, where it is known.

    Raises:
        UserError: If a value is empty, of a wrong type or unknown.
    """

    model: str
    instruction: str
    date: str
    kind: Kind
    seed: int | None = None

    def __post_init__(self) -> None:
        for field in _SOURCE_FIELDS:
            _check(f"source.{field}", getattr(self, field), KINDS if field == "kind" else ())
        if self.seed is not None and (type(self.seed) is not int or self.seed < 0):
            raise UserError(f"field 'source.seed' is {_shown(self.seed)}", fix="write a whole number from 0")
        try:
            # fromisoformat alone also takes forms such as 20261121, which would hash differently
            if re.fullmatch(r"\d{4}-\d{2}-\d{2}", self.date, re.ASCII) is None:
                raise ValueError
            date.fromisoformat(self.date)
        except ValueError:
            what = f"field 'source.date' is no date: {_shown(self.date)}"
            raise UserError(what, fix="write it as YYYY-MM-DD") from None


@dataclass(frozen=True)
class Prompt:
    """One sentence about one finding.

    Args:
        finding: The finding, by its canonical name or by the name that one's own table gives it.
        polarity: ``"positive"`` if the sentence says the finding is there, else ``"negative"``.
        text: The sentence.
        source: Where the sentence comes from.

    Raises:
        UserError: If a value is empty, of a wrong type or unknown.
    """

    finding: str
    polarity: Polarity
    text: str
    source: Source

    def __post_init__(self) -> None:
        _check("finding", self.finding)
        _check("polarity", self.polarity, POLARITIES)
        _check("text", self.text)
        for field, most in _LONGEST.items():
            length = len(getattr(self, field))
            if length > most:
                what = f"field '{field}' has {length:,} characters, more than {most:,}"
                raise UserError(what, fix="shorten it: no text tower reads so many")

    @property
    def key(self) -> tuple[str, str, str]:
        """What makes a prompt the same as another one, whoever wrote it."""
        return self.finding, self.polarity, self.text

    def row(self) -> dict[str, Any]:
        """The prompt as a row of a JSONL file, its fields in the order in which files hold them."""
        row = asdict(self)
        fields = _SOURCE_FIELDS if self.source.seed is None else (*_SOURCE_FIELDS, "seed")
        return {**row, "source": {field: row["source"][field] for field in fields}}

    @property
    def line(self) -> bytes:
        """The row as a file holds it."""
        return (json.dumps(self.row(), ensure_ascii=False) + "\n").encode()


@dataclass(frozen=True)
class PromptBank:
    """Prompts of both polarities for a list of findings. Immutable.

    Args:
        name: The bank's name.
        prompts: Its prompts, in order.

    Raises:
        UserError: If a prompt stands in it twice.
    """

    name: str
    prompts: tuple[Prompt, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "prompts", tuple(self.prompts))
        seen: set[tuple[str, str, str]] = set()
        for prompt in self.prompts:
            if prompt.key in seen:
                raise UserError(
                    f"{prompt.polarity} prompt of '{prompt.finding}' stands twice: {_shown(prompt.text)}",
                    where=f"prompt bank '{self.name}'",
                    fix="keep one of the two",
                )
            seen.add(prompt.key)

    def __len__(self) -> int:
        return len(self.prompts)

    @cached_property
    def _texts(self) -> dict[tuple[str, Polarity], tuple[str, ...]]:
        texts: dict[tuple[str, Polarity], list[str]] = {}
        for prompt in self.prompts:
            texts.setdefault((prompt.finding, prompt.polarity), []).append(prompt.text)
        return {key: tuple(found) for key, found in texts.items()}

    @cached_property
    def findings(self) -> tuple[str, ...]:
        """The findings it has prompts for, in order of first appearance."""
        return tuple(dict.fromkeys(prompt.finding for prompt in self.prompts))

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (64 hex digits) of the rows; the same wherever the file lies and however it is spaced."""
        rows = [prompt.row() for prompt in self.prompts]
        canonical = json.dumps(rows, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        return hashlib.sha256(canonical.encode("ascii")).hexdigest()

    def texts(self, finding: str, polarity: Polarity) -> tuple[str, ...]:
        """The sentences of one polarity for one finding; empty if there are none."""
        return self._texts.get((finding, polarity), ())

    def positive(self, finding: str) -> tuple[str, ...]:
        """The sentences that say the finding is there."""
        return self.texts(finding, "positive")

    def negative(self, finding: str) -> tuple[str, ...]:
        """The sentences that say the finding is not there."""
        return self.texts(finding, "negative")

    def require(self, labels: Iterable[str], polarities: Sequence[Polarity] = POLARITIES) -> None:
        """Check that every label has prompts.

        Args:
            labels: The labels that prompts are needed for.
            polarities: The polarities that each of them needs; ``"positive"`` scoring needs no negatives.

        Raises:
            UserError: If a label lacks a prompt of a polarity; names every such label.
        """
        wanted = tuple(labels)
        lacks = {p: [label for label in wanted if not self.texts(label, p)] for p in polarities}
        if not any(lacks.values()):
            return
        parts = [f"{p} prompts for {', '.join(map(repr, absent))}" for p, absent in lacks.items() if absent]
        raise UserError(
            f"no {' and no '.join(parts)}",
            where=f"prompt bank '{self.name}'",
            fix="add rows for them to a .jsonl bank and give its path, or choose a bank that has them",
        )

    def select(self, labels: Iterable[str]) -> PromptBank:
        """The prompts of some labels only, in the order of the labels.

        Args:
            labels: The labels to keep.

        Returns:
            A bank of the same name whose ``findings`` are ``labels``.

        Raises:
            UserError: If the bank has no prompt at all for a label.
        """
        wanted = tuple(dict.fromkeys(labels))
        absent = [label for label in wanted if label not in self.findings]
        if absent:
            self.require(absent)
        by_finding: dict[str, list[Prompt]] = {label: [] for label in wanted}
        for prompt in self.prompts:
            if prompt.finding in by_finding:
                by_finding[prompt.finding].append(prompt)
        return PromptBank(self.name, tuple(prompt for label in wanted for prompt in by_finding[label]))

    @classmethod
    def read(cls, path: str | os.PathLike[str], name: str | None = None) -> PromptBank:
        """Read and check a JSONL file.

        Args:
            path: The file.
            name: The bank's name; by default the file's name without its ending.

        Raises:
            MissingFiles: If there is no such file.
            UserError: At the first bad row; says which row, what is wrong with it and how to mend it.
        """
        file = Path(path)
        return cls(file.stem if name is None else name, _parse(_bytes(file), str(file)))

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write the bank as JSONL. Whoever reads meanwhile sees the old file or the new, never half of one.

        Raises:
            StorageError: If the disk is full or fails.
            UserError: If the user may not write there.
        """
        write_whole(Path(path), (prompt.line for prompt in self.prompts))


def names() -> tuple[str, ...]:
    """The names of the packaged banks, without reading them."""
    found = (entry.name for entry in (resources.files("retune.prompts") / "banks").iterdir())
    return tuple(sorted(name.removesuffix(_SUFFIX) for name in found if name.endswith(_SUFFIX)))


def load(name_or_path: str | os.PathLike[str]) -> PromptBank:
    """A packaged bank by its name, or any bank by the path of its ``.jsonl`` file.

    Raises:
        UnknownName: If there is no packaged bank of that name.
        UserError: If a file is missing or has a bad row.
    """
    given = os.fspath(name_or_path)
    data, where = _found(given)
    return PromptBank(Path(given).stem if given.endswith(_SUFFIX) else given, _parse(data, where))


def numbered(name_or_path: str | os.PathLike[str]) -> tuple[str, tuple[tuple[int, Prompt], ...]]:
    """A bank's file and its prompts with their row numbers, the same prompt as often as it stands there.

    Raises:
        UnknownName: If there is no packaged bank of that name.
        UserError: If a file is missing or a row is not a prompt.
    """
    data, where = _found(os.fspath(name_or_path))
    return where, tuple(_rows(data, where))


def _found(given: str) -> tuple[bytes, str]:
    """The content of a bank and what to name it in messages."""
    if given.endswith(_SUFFIX):
        return _bytes(Path(given)), str(Path(given))
    known = names()
    if given not in known:
        raise UnknownName("prompt bank", given, known)
    entry = resources.files("retune.prompts") / "banks" / (given + _SUFFIX)
    return entry.read_bytes(), str(entry)


def _bytes(file: Path) -> bytes:
    try:
        return read_small(file)
    except FileNotFoundError:
        raise MissingFiles("no such prompt bank", where=str(file), fix="check the path") from None
    except OSError as error:
        what = f"cannot be read ({error.strerror})"
        raise UserError(what, where=str(file), fix="give the path of a readable .jsonl file") from None


def _parse(data: bytes, where: str) -> tuple[Prompt, ...]:
    first_row: dict[tuple[str, str, str], int] = {}
    prompts: list[Prompt] = []
    for row, prompt in _rows(data, where):
        if prompt.key in first_row:
            what = (
                f"the same {prompt.polarity} prompt of '{prompt.finding}' as in row {first_row[prompt.key]}"
            )
            raise UserError(what, where=f"{where}:{row}", fix="delete one of the two rows")
        first_row[prompt.key] = row
        prompts.append(prompt)
    if not prompts:
        raise UserError("holds no prompts", where=where, fix="write one JSON object per row")
    return tuple(prompts)


def _rows(data: bytes, where: str) -> Iterator[tuple[int, Prompt]]:
    # bytes are split at line feeds only: str.splitlines would also split at U+2028 inside a sentence
    for row, line in enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            yield row, _prompt(_decode(line))
        except UserError as error:
            raise UserError(error.what, where=f"{where}:{row}", fix=error.fix) from None


def _decode(line: bytes) -> object:
    try:
        return json.loads(line.decode("utf-8"), object_pairs_hook=_unique)
    except UnicodeDecodeError:
        raise UserError("the row is not UTF-8", fix="save the file as UTF-8") from None
    except json.JSONDecodeError as error:
        what = f"bad JSON at column {error.colno} ({error.msg})"
    except (ValueError, RecursionError) as error:
        what = f"bad JSON ({error})"
    raise UserError(what, fix='write the row as one JSON object, {"finding": ..., "polarity": ..., ...}')


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for name, value in pairs:
        if name in fields:
            raise UserError(f"field {_shown(name)} stands twice in the row", fix="keep one of the two")
        fields[name] = value
    return fields


def _prompt(row: object) -> Prompt:
    fields = _fields(row, "row", _ROW_FIELDS)
    source = _fields(fields["source"], "field 'source'", _SOURCE_FIELDS, ("seed",))
    return Prompt(fields["finding"], fields["polarity"], fields["text"], Source(**source))


def _fields(
    value: object, what: str, needed: tuple[str, ...], optional: tuple[str, ...] = ()
) -> Mapping[str, Any]:
    known = (*needed, *optional)
    if not isinstance(value, dict):
        raise UserError(f"the {what} is {_shown(value)}", fix=f"write a JSON object with {', '.join(known)}")
    fields = cast(dict[str, Any], value)
    unknown = [name for name in fields if name not in known]
    if unknown:
        fault = f"the {what} has an unknown field {_shown(unknown[0])}"
        raise UserError(fault, fix=f"known: {', '.join(known)}")
    missing = [name for name in needed if name not in fields]
    if missing:
        raise UserError(f"the {what} lacks {', '.join(map(repr, missing))}", fix="add it")
    return fields


def _check(field: str, value: object, known: tuple[str, ...] = ()) -> None:
    if not isinstance(value, str):
        raise UserError(f"field '{field}' is {_shown(value)}", fix="write a string in double quotes")
    if not value.strip():
        raise UserError(f"field '{field}' is empty", fix="fill it in or delete the row")
    if value != value.strip():
        what = f"field '{field}' starts or ends with a space: {_shown(value)}"
        raise UserError(what, fix="delete the space")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        what = f"field '{field}' holds half of a character"
        raise UserError(what, fix=r"mend its \ud800 to \udfff escape") from None
    if known and value not in known:
        raise UserError(f"field '{field}' is {_shown(value)}", fix=f"write one of {', '.join(known)}")


def _shown(value: object) -> str:
    """A value as JSON, cut to a length that leaves the message readable."""
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."

"""Tables of labels: strict reading, and errors that name the row a spreadsheet would show."""

from __future__ import annotations

import csv
import difflib
import gzip
import zlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from io import BytesIO, StringIO, TextIOWrapper
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, NoReturn, cast

import numpy as np

from retune.data.dataset import Array, FloatArray, IntArray
from retune.data.lists import look_for
from retune.errors import BadTable, MissingFiles
from retune.files import read_most

if TYPE_CHECKING:
    import pandas as pd


OLDEST: Final = 120
"""Ages above are slips of the pen (NIH's 2017 table has one of 414) and become unknown."""
MOST: Final = 4 * 10**9
"""Bytes that a packed table may unpack to; five million rows are one to two thousand million."""
LARGER: Final = 50
"""Times that it may be larger unpacked: of text as tables hold it, gzip makes a twentieth."""
FREE: Final = 10**8
"""Bytes that it may always unpack to."""
COLUMNS: Final = 10_000
"""More than any table of labels has."""
SEXES: Final = {"M": "M", "F": "F", "": ""}
_SEPARATORS: Final = {",": "commas", ";": "semicolons", "\t": "tabs"}
_ENOUGH: Final = 1 << 17
"""So many bytes hold a table's first rows."""
_BLOCK: Final = 1 << 24
"""Bytes of a table looked at together; positions of its separators take eight times as many."""
_MARK: Final = "separator"
_OUTSIDE: Final = r"^[/\\~]|^[A-Za-z]:|(?:^|[/\\])\.\.(?:[/\\]|$)"
"""The name of a file that may lie out of the folder it is relative to."""
_DECIMAL_COMMA: Final = r"^(\s*[-+]?(?:0|[1-9][0-9]*)),([0-9]{1,2}|[0-9]{4,})(\s*)$"
"""A number such as 63,5; with three digits behind the comma it may be thousands, and is no number."""


def find_table(root: Path, names: Sequence[str], *, fix: str = "put it there or check --root") -> Path:
    """The first of these tables that lies in a folder, plain or as ``.gz``, in capitals or small letters.

    Args:
        root: Folder to look in.
        names: File names, the preferred one first.
        fix: What to do where there is none.

    Raises:
        MissingFiles: If there is none; the message lists the names.
        BadTable: If two names differ from it in capitals only.
    """
    path = look_for(root, names)
    if path is not None:
        return path
    what = f"no table here (looked for {' or '.join(names)}, plain or .gz)"
    raise MissingFiles(what, where=str(root), fix=fix)


def read_table(path: Path, required: Sequence[str]) -> pd.DataFrame:
    """Read a table, every value as text and blanks as ``""``; what stands between values is in its ``attrs``.

    Values stand between commas. Where the header has none, or only semicolons or tabs lead to the columns
    required, these do; a first line ``sep=;`` says it, too. A column without a name is called ``Unnamed: k`` (k
    from 0), and is left out if it is blank throughout.

    Args:
        path: A ``.csv`` or ``.csv.gz`` file in UTF-8.
        required: Columns that must be there.

    Returns:
        Frame of shape (N, columns). Its index is the row number a spreadsheet shows, the header being row 1
        where no line ``sep=`` stands above it.

    Raises:
        MissingFiles: If there is no such file.
        BadTable: If it is empty, lacks a column, has a row of too many or too few fields, or is no such file.
    """
    import pandas as pd

    data = read_text(path)
    data, mark, above = _separator(data, required, path)
    counts, header = _shape(data, path, mark, above)
    _check_header(header, required, path)
    width = len(header)
    bad = np.flatnonzero((counts != 0) & (counts != width) & (counts != width + 1))
    if len(bad):
        _wrong_width(path, int(bad[0]) + above, int(counts[bad[0]]), width, mark)
    rows = np.flatnonzero(counts[1:]) + 2 + above
    if not len(rows):
        raise BadTable("the table has a header and no rows", where=str(path))
    # One field more than the header is let pass below if it is blank: a separator at the end of the line.
    names = [name or f"Unnamed: {k}" for k, name in enumerate([*header, ""])]
    try:
        frame = pd.read_csv(
            BytesIO(data),
            sep=mark,
            header=None,
            names=names,
            skiprows=1,
            index_col=False,
            dtype=str,
            na_filter=False,
        )
    except pd.errors.ParserError as error:
        raise BadTable(f"cannot be read as a table ({error})", where=str(path)) from error
    if len(frame) != len(rows):
        raise BadTable(f"{len(rows)} rows were counted but {len(frame)} read", where=str(path))
    frame.index = pd.Index(rows, name="row")
    extra = frame[names[-1]].to_numpy(dtype=object).astype(bool)
    if extra.any():
        _wrong_width(path, int(rows[extra][0]) - 1, width + 1, width, mark)
    blank = [name for name in names if name not in header and not (frame[name] != "").any()]
    frame = frame.drop(columns=blank)
    frame.attrs = {_MARK: mark}
    return frame


def table_notes(*tables: tuple[pd.DataFrame, Path]) -> tuple[str, ...]:
    """What a user should know of how tables were read: what separates their values, if not commas."""
    return tuple(
        f"{path.name} was read as separated by {_SEPARATORS[mark]}"
        for frame, path in tables
        if (mark := frame.attrs.get(_MARK, ",")) != ","
    )


def _separator(data: bytes, required: Sequence[str], path: Path) -> tuple[bytes, str, int]:
    """The table without a line ``sep=;``, what separates its values, and how many lines were taken off."""
    first = data[: data.find(b"\n") + 1 or len(data)].removesuffix(b"\n").removesuffix(b"\r")
    said = first.strip().strip(b'"').lower() if first[-1:] != b"\t" else b"sep=\t"
    if said.startswith(b"sep="):
        mark = said[4:].decode() or ","
        if mark not in _SEPARATORS:
            raise BadTable(f"is separated by '{mark}'", where=str(path), fix="save it with commas in between")
        rest = data.partition(b"\n")[2]
        if not rest.strip():
            raise BadTable("the table is empty", where=str(path))
        return rest, mark, 1
    header, first_row = ({mark: _record(data, mark, k) for mark in _SEPARATORS} for k in (0, 1))
    fits = {mark: len(names) > 1 and set(required) <= set(names) for mark, names in header.items()}
    if fits[","] and (required or len(first_row[","]) in (0, len(header[","]), len(header[","]) + 1)):
        return data, ",", 0
    others = [
        mark
        for mark, names in header.items()
        if mark != "," and len(names) > 1 and (fits[mark] or len(header[","]) == 1)
    ]
    if len(header[","]) > 1 and not required:
        # A comma within a name of a table separated otherwise.
        others = [mark for mark in others if len(first_row[mark]) == len(header[mark])]
    if len(others) > 1:
        raise BadTable(
            "holds semicolons and tabs in its header, so that it cannot be told what separates columns",
            where=f"{path}, row 1",
            fix="save it with commas in between",
        )
    return data, others[0] if others else ",", 0


def _record(data: bytes, mark: str, number: int) -> list[str]:
    """One of the first records of a table; nothing where it cannot be read, which is told later."""
    start = data[:_ENOUGH].decode(errors="ignore")
    reader = csv.reader(StringIO(start, newline=""), delimiter=mark, strict=True)
    try:
        return next(islice((record for record in reader if record), number, None), [])
    except csv.Error:
        return []


def read_text(path: Path) -> bytes:
    """The text of a table, plain or packed, as UTF-8 without a byte order mark.

    Raises:
        MissingFiles: If it cannot be read.
        BadTable: If it is no such text, or empty.
    """
    try:
        data = _unpacked(path) if path.suffix == ".gz" else path.read_bytes()
    except FileNotFoundError as error:
        raise MissingFiles(f"there is no {path.name}", where=str(path.parent)) from error
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise BadTable("is not a whole gzip file", where=str(path), fix="fetch it again") from error
    except OSError as error:
        raise MissingFiles(f"cannot be read ({error.strerror})", where=str(path)) from error
    data = data.removeprefix(b"\xef\xbb\xbf")
    _refuse_encoding(data, path)
    at = data.find(b"\0")
    reason = "a NUL byte"
    if at < 0 and not data.isascii():
        try:
            data.decode()
        except UnicodeDecodeError as error:
            at, reason = error.start, f"byte 0x{data[error.start]:02x}"
    if at >= 0:
        row = data.count(b"\n", 0, at) + 1
        where = f"{path}, row {row}"
        fix = "save the table as UTF-8" + (
            " (it may be Latin-1 or Windows-1252 now)" if reason[0] == "b" else ""
        )
        raise BadTable(f"{reason} is not UTF-8 text", where=where, fix=fix)
    if not data.strip():
        raise BadTable("the table is empty", where=str(path))
    return data


def _refuse_encoding(data: bytes, path: Path) -> None:
    """Name the encodings and formats that can be told by their first bytes."""
    if data[:4] in (b"PK\3\4", b"\xd0\xcf\x11\xe0"):
        raise BadTable("is a spreadsheet, not text", where=str(path), fix="save it as CSV UTF-8")
    if data[:2] == b"\x1f\x8b":
        raise BadTable("is compressed by gzip", where=str(path), fix=f"call it {path.name}.gz")
    # Of ASCII every second byte of UTF-16 is zero.
    zeros = [data[start:1000:2].count(0) for start in (0, 1)]
    wide = data[:2] in (b"\xff\xfe", b"\xfe\xff") or (min(zeros) == 0 and 4 * max(zeros) > len(data[:1000]))
    if wide and max(zeros):
        raise BadTable("is UTF-16 text", where=str(path), fix="save the table as UTF-8")


def _unpacked(path: Path) -> bytes:
    """A packed table, unless it unpacks to what no table does: a few bytes may become gigabytes."""
    most = min(MOST, max(FREE, LARGER * path.stat().st_size))
    with gzip.open(path) as file:
        data = read_most(cast(IO[bytes], file), most)
    if data is None:
        times = "" if most == MOST else f", {LARGER} times its size"
        what = f"unpacks to more than {most / 1e6:,.0f} MB{times}"
        fix = f"if that is right, unpack it yourself (gunzip {path.name})"
        raise BadTable(what, where=str(path), fix=fix)
    return data


def _shape(data: bytes, path: Path, mark: str, above: int) -> tuple[IntArray, list[str]]:
    """Fields per row, 0 for a blank line, and the header."""
    counts: list[int] = []
    # Line by line: the whole text at once takes four bytes a character.
    lines = TextIOWrapper(BytesIO(data), encoding="utf-8", newline="")
    reader = csv.reader(lines, delimiter=mark, strict=True)
    try:
        header = next(reader)
        if b'"' not in data:
            return _count_fields(data, mark), header
        counts = [len(header)]
        counts.extend(map(len, reader))
    except csv.Error as error:
        where = f"{path}, row {len(counts) + 1 + above}"
        raise BadTable(f"{error} (is a quote never closed?)", where=where) from error
    return np.array(counts, dtype=np.int64), header


def _count_fields(data: bytes, mark: str) -> IntArray:
    # Without quotes every one of them separates; csv.reader would take most of the reading time.
    text = np.frombuffer(data.replace(b"\r\n", b"\n").replace(b"\r", b"\n"), np.uint8)
    ends, marks, before = [np.array([-1])], [np.array([0])], 0
    for start in range(0, len(text), _BLOCK):
        block = text[start : start + _BLOCK]
        here, separators = np.flatnonzero(block == ord("\n")), np.flatnonzero(block == ord(mark))
        ends.append(start + here)
        marks.append(before + np.searchsorted(separators, here))
        before += len(separators)
    # The last line may lack its end; if not, one more blank line is counted.
    end, passed = np.append(np.concatenate(ends), len(text)), np.append(np.concatenate(marks), before)
    return np.where(np.diff(end) > 1, np.diff(passed) + 1, 0).astype(np.int64)


def _check_header(header: list[str], required: Sequence[str], path: Path) -> None:
    if not any(header):
        raise BadTable("the header is blank", where=f"{path}, row 1")
    if len(header) > COLUMNS:
        raise BadTable(f"{len(header):,} columns, more than {COLUMNS:,}", where=f"{path}, row 1")
    twice = sorted(name for name, count in Counter(header).items() if name and count > 1)
    if twice:
        raise BadTable(f"column '{twice[0]}' stands in the header more than once", where=str(path))
    missing = [name for name in required if name not in header]
    if not missing:
        return
    names = ", ".join(f"'{name}'" for name in missing)
    near = difflib.get_close_matches(missing[0], header, n=1, cutoff=0.6)
    fix = f"is '{near[0]}' meant for '{missing[0]}'?" if near else None
    present = ", ".join(f"'{name}'" for name in header if name)
    what = f"missing column{'s' if len(missing) > 1 else ''} {names} (there are {present})"
    raise BadTable(what, where=str(path), fix=fix)


def _wrong_width(path: Path, record: int, count: int, width: int, mark: str) -> NoReturn:
    read = "" if mark == "," else f" (read as separated by {_SEPARATORS[mark]})"
    what = f"{count} field{'s' if count > 1 else ''} where the header has {width}{read}"
    raise BadTable(what, where=f"{path}, row {record + 1}")


def refuse(
    frame: pd.DataFrame,
    bad: Array | pd.Series[bool],
    column: str,
    path: Path,
    what: str,
    *,
    fix: str | None = None,
) -> None:
    """Raise for the first of some bad rows; do nothing if there are none.

    Args:
        frame: A table from ``read_table``.
        bad: Which rows are bad, bool of shape (N,).
        column: The column at fault.
        path: The table's file.
        what: What is wrong; ``{}`` stands for the value.
        fix: What to do about it.

    Raises:
        BadTable: Naming file, row and column, and how many further rows are bad.
    """
    at = np.flatnonzero(np.asarray(bad, dtype=bool))
    if not len(at):
        return
    told = what.replace("{}", str(frame[column].iloc[int(at[0])]))
    more = f" (and in {len(at) - 1} more rows)" if len(at) > 1 else ""
    raise BadTable(told + more, where=f"{path}, row {frame.index[int(at[0])]}, column '{column}'", fix=fix)


def refuse_escapes(frame: pd.DataFrame, column: str, path: Path) -> None:
    """Raise for the first file name that is blank, absolute or leads out of the data set's folder.

    Args:
        frame: A table from ``read_table``.
        column: A column of file names relative to the data set's folder.
        path: The table's file.

    Raises:
        BadTable: Naming file, row and column.
    """
    refuse_blank(frame, column, path, "the file name is blank")
    names = frame[column]
    # Hardly a table holds any of these signs, and to look for the pattern takes longer than to read the table.
    together = "\n" + "\n".join(names)
    if not any(sign in together for sign in (":", "..", "\n/", "\n\\", "\n~")):
        return
    outside = names.str.contains(_OUTSIDE, regex=True)
    refuse(frame, outside, column, path, "'{}' leads out of the data set's folder")


def refuse_blank(frame: pd.DataFrame, column: str, path: Path, what: str = "the value is blank") -> None:
    """Raise for the first blank in a column; see :func:`refuse`."""
    refuse(frame, frame[column].str.strip() == "", column, path, what)


def refuse_folders(
    frame: pd.DataFrame, column: str, path: Path, what: str = "'{}' is not a plain file name"
) -> None:
    """Raise for the first image name that could lead out of its folder; see :func:`refuse`."""
    names = frame[column]
    refuse(frame, names.str.contains(r"[/\\:]", regex=True) | names.isin([".", ".."]), column, path, what)


def refuse_twice(frame: pd.DataFrame, names: pd.Series[Any], column: str, path: Path) -> None:
    """Raise for the first image that has a second row; see :func:`refuse`."""
    refuse(frame, names.duplicated(), column, path, "image '{}' stands in the table twice")


def by_value(values: pd.Series[Any], function: Callable[[pd.Series[Any]], pd.Series[Any]]) -> pd.Series[Any]:
    """What a function makes of a column (N,) value by value, asked once for each of its distinct values."""
    import pandas as pd

    which, distinct = pd.factorize(values, use_na_sentinel=False)
    made = function(pd.Series(distinct)).take(which)
    made.index = values.index
    return made


def text(values: pd.Series[Any]) -> Array:
    """A column as an array of text, (N,)."""
    return values.to_numpy(object).astype(str)


def recode(
    frame: pd.DataFrame,
    column: str,
    names: Mapping[str, str],
    path: Path,
    what: str = "",
    *,
    words: pd.Series[Any] | None = None,
) -> Array:
    """A column of words out of a list as we spell them, text of shape (N,).

    Args:
        frame: A table from ``read_table``.
        column: The column.
        names: Our spelling of each of the table's.
        path: The table's file.
        what: What to say of another word, if not that it is none of these; ``{}`` stands for it.
        words: The column made ready to be looked up; as it stands where left out.

    Raises:
        BadTable: Naming file, row and column of the first word that is not among them.
    """
    values = by_value(frame[column] if words is None else words, lambda distinct: distinct.map(names))
    what = what or f"'{{}}' is not {' or '.join(name for name in names if name)}"
    refuse(frame, values.isna(), column, path, what)
    return text(values)


def whole_numbers(frame: pd.DataFrame, column: str, path: Path, *, minimum: int = 0) -> IntArray:
    """A column of whole numbers, shape (N,); ``"7.0"`` counts as one, a blank does not.

    Raises:
        BadTable: With the row of the first value that is none, or lies below the minimum.
    """
    values = _numeric(frame, column)
    # Beyond 2**53 a float no longer tells neighbours apart, and two patients would become one.
    if values.dtype.kind == "f":
        whole = np.isfinite(values) & (values == np.floor(values)) & (np.abs(values) < 2.0**53)
    else:
        whole = np.ones(len(values), dtype=bool)
    refuse(frame, ~whole, column, path, "'{}' is not a whole number")
    refuse(frame, values < minimum, column, path, f"'{{}}' is below {minimum}")
    whole_values: IntArray = values.astype(np.int64)
    return whole_values


def numbers(frame: pd.DataFrame, column: str, path: Path) -> FloatArray:
    """A column of numbers as float32 of shape (N,), blanks as NaN.

    Raises:
        BadTable: With the row of the first value that is neither blank nor a finite number.
    """
    values = _numeric(frame, column).astype(np.float64)
    blank = by_value(frame[column], lambda distinct: distinct.str.strip() == "").to_numpy(dtype=bool)
    refuse(frame, ~blank & ~np.isfinite(values), column, path, "'{}' is not a number")
    return np.where(blank, np.nan, values).astype(np.float32)


def _numeric(frame: pd.DataFrame, column: str) -> Any:
    import pandas as pd

    def numeric(distinct: pd.Series[Any]) -> pd.Series[Any]:
        if frame.attrs.get(_MARK, ",") != ",":
            distinct = distinct.str.replace(_DECIMAL_COMMA, r"\1.\2\3", regex=True)
        return pd.to_numeric(distinct, errors="coerce")

    return by_value(frame[column], numeric).to_numpy()

"""Tables are read strictly, and errors name the row a spreadsheet shows."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from retune.data.tables import find_table, numbers, read_table, refuse, table_notes, whole_numbers
from retune.errors import BadTable, MissingFiles, UserError


def write(tmp_path: Path, text: str | bytes, name: str = "t.csv") -> Path:
    data = text.encode() if isinstance(text, str) else text
    path = tmp_path / name
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return path


def failure(path: Path, required: tuple[str, ...] = ("a", "b"), kind: type[UserError] = BadTable) -> str:
    with pytest.raises(UserError) as caught:
        read_table(path, required)
    assert type(caught.value) is kind
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("quoted", [False, True])
def test_values_stay_text(tmp_path: Path, name: str, end: str, quoted: bool) -> None:
    last = '"x, ""y"""' if quoted else "NA"
    path = write(tmp_path, end.join(["a,b", "007,1.0", ",nan", "", last + ",é"]) + end, name)
    frame = read_table(path, ["a", "b"])
    assert frame["a"].tolist() == ["007", "", 'x, "y"' if quoted else "NA"]
    assert frame["b"].tolist() == ["1.0", "nan", "é"]
    assert frame.index.tolist() == [2, 3, 5]  # The blank row counts, as in a spreadsheet.


def test_byte_order_mark_is_no_part_of_the_first_name(tmp_path: Path) -> None:
    assert read_table(write(tmp_path, b"\xef\xbb\xbfa,b\n1,2\n"), ["a", "b"]).columns.tolist() == ["a", "b"]


def test_line_breaks_in_quotes_do_not_count_as_rows(tmp_path: Path) -> None:
    path = write(tmp_path, 'a,b\n"one\ntwo\nthree",1\nx,2\nx,3,4,5\n')
    assert "row 4" in failure(path)
    frame = read_table(write(tmp_path, 'a,b\n"one\ntwo",1\nx,2\n'), ["a"])
    assert frame.index.tolist() == [2, 3]
    assert frame["a"].tolist() == ["one\ntwo", "x"]


@pytest.mark.parametrize("text", ["a,b,\n1,2,\n3,4,\n", "a,b\n1,2,\n3,4\n", 'a,b,\n1,"2",\n3,4,\n'])
def test_trailing_blank_column_is_left_out(tmp_path: Path, text: str) -> None:
    frame = read_table(write(tmp_path, text), ["a", "b"])
    assert frame.columns.tolist() == ["a", "b"]
    assert frame.to_numpy().tolist() == [["1", "2"], ["3", "4"]]


def test_column_without_a_name_is_kept_if_it_holds_anything(tmp_path: Path) -> None:
    frame = read_table(write(tmp_path, ",a,b\n0,1,2\n1,3,4\n"), ["a", "b"])
    assert frame.columns.tolist() == ["Unnamed: 0", "a", "b"]
    assert frame["a"].tolist() == ["1", "3"]


@pytest.mark.parametrize("quote", ["", '"'])
@pytest.mark.parametrize(
    ("row", "count"), [("5", "1 field "), ("5,6,7", "3 fields"), ("5,6,", None), ("5,6,,", "4 fields")]
)
def test_rows_of_another_width(tmp_path: Path, quote: str, row: str, count: str | None) -> None:
    path = write(tmp_path, f"a,b\n{quote}1{quote},2\n\n{row}\n")
    if count is None:
        assert read_table(path, ["a"])["b"].tolist() == ["2", "6"]
    else:
        message = failure(path)
        assert count in message
        assert "row 4" in message
        assert "header has 2" in message


def test_missing_columns_are_named_with_those_present(tmp_path: Path) -> None:
    message = failure(write(tmp_path, "Patient Id,View\n1,2\n"), ("Patient ID", "Age"))
    for part in ("'Patient ID', 'Age'", "'Patient Id', 'View'", "is 'Patient Id' meant for 'Patient ID'?"):
        assert part in message


@pytest.mark.parametrize(
    ("data", "parts"),
    [
        (b"", ("empty",)),
        (b"\n \n", ("empty",)),
        (b"a,b\n", ("no rows",)),
        (b"a,b\n\n\n", ("no rows",)),
        (b"\na,b\n1,2\n", ("row 1", "header is blank")),
        (b"a,b,a\n1,2,3\n", ("'a'", "more than once")),
        (b"a,b\n1,2\n\xff,3\n", ("row 3", "0xff", "UTF-8")),
        (b"a,b\n1,\x002\n", ("row 2", "NUL")),
        ("a,b\n1,2\n".encode("utf-16"), ("UTF-8",)),
        (b'a,b\n1,2\n3,"4\n5,6\n', ("row 3", "quote never closed")),
        (b'a,b\n1,2\n3,"' + b"4\n" * 200_000, ("row 3", "quote never closed")),
    ],
)
def test_bad_tables(tmp_path: Path, data: bytes, parts: tuple[str, ...]) -> None:
    message = failure(write(tmp_path, data))
    for part in (*parts, "t.csv"):
        assert part in message


def test_broken_gzip(tmp_path: Path) -> None:
    path = write(tmp_path, "a,b\n" + "1,2\n" * 100, "t.csv.gz")
    whole = path.read_bytes()
    for data in (whole[:-12], b"a,b\n1,2\n", whole[:20] + b"\xff" * 10):
        path.write_bytes(data)
        assert "not a whole gzip file" in failure(path)


def test_missing_file(tmp_path: Path) -> None:
    assert "there is no t.csv" in failure(tmp_path / "t.csv", kind=MissingFiles)
    assert str(tmp_path) in failure(tmp_path, kind=MissingFiles)


def test_find_table(tmp_path: Path) -> None:
    with pytest.raises(MissingFiles, match=r"looked for new\.csv or old\.csv, plain or \.gz"):
        find_table(tmp_path, ["new.csv", "old.csv"])
    old, new = tmp_path / "old.csv", tmp_path / "new.csv.gz"
    old.write_text("a\n1\n")
    assert find_table(tmp_path, ["new.csv", "old.csv"]) == old
    new.write_bytes(b"")
    assert find_table(tmp_path, ["new.csv", "old.csv"]) == new


def test_whole_numbers(tmp_path: Path) -> None:
    path = write(tmp_path, "a,b\n007,x\n8.0,1\n")
    frame = read_table(path, ["a"])
    values = whole_numbers(frame, "a", path)
    assert values.tolist() == [7, 8]
    assert values.dtype == np.int64
    with pytest.raises(BadTable, match=r"row 3, column 'a': '8\.0' is below 9"):
        whole_numbers(frame.iloc[1:], "a", path, minimum=9)


@pytest.mark.parametrize("value", ["", "x", "1.5", "-3", "inf", "nan", "12345678901234567890.5", "1e300"])
def test_not_whole_numbers(tmp_path: Path, value: str) -> None:
    path = write(tmp_path, f"a,b\n1,2\n\n{value},2\n2,2\n")
    frame = read_table(path, ["a"])
    with pytest.raises(BadTable) as caught:
        whole_numbers(frame, "a", path)
    assert f"{path}, row 4, column 'a': '{value}'" in str(caught.value)


def test_numbers(tmp_path: Path) -> None:
    path = write(tmp_path, "a,b\n1.5,2\n,2\n-1,2\n")
    values = numbers(read_table(path, ["a"]), "a", path)
    assert values.dtype == np.float32
    np.testing.assert_array_equal(values, np.array([1.5, np.nan, -1], dtype=np.float32))
    path = write(tmp_path, "a,b\n1.5,2\n,2\ninf,2\nx,2\n")
    with pytest.raises(BadTable, match=r"row 4, column 'a': 'inf' is not a number \(and in 1 more rows\)"):
        numbers(read_table(path, ["a"]), "a", path)


def test_refuse_keeps_braces_in_values(tmp_path: Path) -> None:
    path = write(tmp_path, "a,b\n{x},2\n")
    frame = read_table(path, ["a"])
    refuse(frame, np.array([False]), "a", path, "'{}' is odd")
    with pytest.raises(BadTable, match=r"row 2, column 'a': '\{x\}' is odd; mend it"):
        refuse(frame, np.array([True]), "a", path, "'{}' is odd", fix="mend it")


@pytest.mark.parametrize(("mark", "name"), [(";", "semicolons"), ("\t", "tabs")])
@pytest.mark.parametrize("quoted", [False, True])
@pytest.mark.parametrize("said", [False, True])
def test_other_separators(tmp_path: Path, mark: str, name: str, quoted: bool, said: bool) -> None:
    value = '"x, y"' if quoted else "x, y"
    path = write(tmp_path, (f"sep={mark}\r\n" if said else "") + f"a{mark}b\n7{mark}63,5\n{value}{mark}\n")
    frame = read_table(path, ["a", "b"])
    assert frame["a"].tolist() == ["7", "x, y"]
    assert frame.index.tolist() == ([3, 4] if said else [2, 3])
    np.testing.assert_array_equal(numbers(frame, "b", path), np.array([63.5, np.nan], np.float32))
    assert table_notes((frame, path)) == (f"t.csv was read as separated by {name}",)


def test_commas_said_in_the_first_line(tmp_path: Path) -> None:
    path = write(tmp_path, "sep=,\na,b\n1,2\n")
    frame = read_table(path, ["a", "b"])
    assert frame["b"].tolist() == ["2"]
    assert table_notes((frame, path)) == ()
    assert "row 4: 3 fields where" in failure(write(tmp_path, "sep=,\na,b\n1,2\n1,2,3\n"))


def test_a_comma_in_a_name_of_a_table_with_semicolons(tmp_path: Path) -> None:
    frame = read_table(write(tmp_path, "a;b;c, d\n1;2;3\n"), [])
    assert list(frame.columns) == ["a", "b", "c, d"]


def test_a_comma_that_may_mean_thousands_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, "a;b\n1;1,234\n")
    with pytest.raises(BadTable, match="row 2, column 'b': '1,234' is not a number"):
        numbers(read_table(path, ["a"]), "b", path)


@pytest.mark.parametrize(
    ("data", "what", "fix"),
    [
        ("a,b\n1,2\n".encode("utf-16"), "is UTF-16 text", "as UTF-8"),
        ("a,b\n1,2\n".encode("utf-16-le"), "is UTF-16 text", "as UTF-8"),
        ("a,b\n1,2\n".encode("utf-16-be"), "is UTF-16 text", "as UTF-8"),
        ("a,b\n1,é\n".encode("latin-1"), "row 2: byte 0xe9", "Latin-1"),
        (b"PK\3\4....", "is a spreadsheet", "CSV UTF-8"),
        (gzip.compress(b"a,b\n1,2\n", mtime=0), "is compressed by gzip", "t.csv.gz"),
        (b"sep=|\na|b\n", "is separated by '|'", "commas"),
        (b"a;b\tc\n1;2\t3\n", "semicolons and tabs", "commas"),
    ],
)
def test_encodings_and_formats_are_named(tmp_path: Path, data: bytes, what: str, fix: str) -> None:
    message = failure(write(tmp_path, data), ())
    assert what in message
    assert fix in message


def test_names_in_capitals_are_the_same_tables(tmp_path: Path) -> None:
    assert find_table(write(tmp_path, "a\n", "TRAIN.csv").parent, ["train.csv"]).name == "TRAIN.csv"
    write(tmp_path, "a\n", "Train.csv")
    with pytest.raises(BadTable, match=r"TRAIN.csv and Train.csv may both be train.csv"):
        find_table(tmp_path, ["train.csv"])


@pytest.mark.parametrize("end", ["", "\n", "\n\n"])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_rows_are_counted_alike_wherever_a_block_ends(
    newline: str, end: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = ["a,b", "1,2", "", "3,4", "5,6"]
    path, wrong = tmp_path / "t.csv", tmp_path / "wrong.csv"
    path.write_bytes((newline.join(rows) + end.replace("\n", newline)).encode())
    wrong.write_bytes((newline.join([*rows, "7,8,9,10"]) + end.replace("\n", newline)).encode())
    for size in (*range(1, 12), 1 << 20):
        monkeypatch.setattr("retune.data.tables._BLOCK", size)
        assert read_table(path, ()).index.tolist() == [2, 4, 5]
        with pytest.raises(BadTable, match="row 6: 4 fields where the header has 2"):
            read_table(wrong, ())

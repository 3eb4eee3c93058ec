"""Submissions whose files and folders are hostile or broken, each made from a valid one by one change."""

from __future__ import annotations

import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from leaderboard.hostile import Hostile
from made_boards import ENTRY, SCORES, packed, put, resign, tensors

FILES: dict[str, Hostile] = {}
"""Changes of ``scores.safetensors`` and of what stands in and around the folder."""


def header_case(name: str, change: Callable[[dict[str, Any]], Any], words: str) -> None:
    def rewrite(folder: Path) -> None:
        header, body = tensors(folder)
        change(header)
        resign(folder, packed(header, body))

    FILES[name] = Hostile(rewrite, words)


def file_case(name: str, change: Callable[[bytes], bytes], words: str) -> None:
    FILES[name] = Hostile(lambda folder: resign(folder, change((folder / SCORES).read_bytes())), words)


def body_case(
    name: str, change: Callable[[dict[str, Any]], Any], words: str, outcome: str = "refused"
) -> None:
    """A change of the arrays, which are written as they should be."""

    def rewrite(folder: Path) -> None:
        header, body = tensors(folder)
        kinds = {"U8": np.uint8, "U16": np.uint16, "F32": np.float32}
        arrays = {}
        for key, told in header.items():
            begin, end = told["data_offsets"]
            arrays[key] = np.frombuffer(body[begin:end], kinds[told["dtype"]]).reshape(told["shape"]).copy()
        change(arrays)
        order = sorted(header, key=lambda key: header[key]["data_offsets"])
        resign(folder, packed(header, b"".join(arrays[key].tobytes() for key in order)))

    FILES[name] = Hostile(rewrite, words, outcome)


def folder_case(name: str, words: str) -> Callable[[Callable[[Path], object]], None]:
    return lambda change: FILES.update({name: Hostile(change, words)})


# Headers that lie.
file_case("a length beyond the file", lambda c: struct.pack("<Q", len(c)) + c[8:], "its header cannot be")
file_case("a length of 2^63", lambda c: struct.pack("<Q", 2**63) + c[8:], "its header cannot be")
file_case("a length of 2^64-1", lambda c: b"\xff" * 8 + c[8:], "its header cannot be")
file_case("a length of 0", lambda c: bytes(8) + c[8:], "header: is not JSON")
file_case("three bytes", lambda c: c[:3], "its header cannot be")
file_case("no bytes", lambda c: b"", "its header cannot be")
file_case("trailing bytes", lambda c: c + b"PK\3\4", "bytes long, its header says")
file_case("truncated", lambda c: c[:-1], "bytes long, its header says")
file_case("a pickle", lambda c: b"\x80\x04cos\nsystem\n(S'touch canary'\ntR.", "its header cannot be")
file_case("no JSON in the header", lambda c: packed(b"{not json", b""), "header: is not JSON")
file_case("brackets in the header", lambda c: packed(b"[" * 500, b""), "nested more than 16 deep")
file_case("a large header", lambda c: packed(b" " * 2000 + b"{}", b""), "its header cannot be 2,002 bytes")
file_case(
    "a tensor twice",
    lambda c: packed(c[8 : 8 + struct.unpack("<Q", c[:8])[0]].replace(b'"items"', b'"items":0,"items"'), b""),
    "the key 'items' stands twice",
)
header_case("an extra tensor", lambda h: h.update(more=h["range"]), "and nothing else")
header_case("metadata", lambda h: h.update(__metadata__={"a": "b"}), "and nothing else")
header_case("no items", lambda h: h.pop("items"), "must hold items")
header_case("negative offsets", lambda h: h["items"].update(data_offsets=[-16, 0]), "data_offsets")
header_case("offsets of 2^70", lambda h: h["items"].update(data_offsets=[0, 2**70]), "data_offsets")
header_case("offsets as decimals", lambda h: h["items"].update(data_offsets=[0.0, 16.0]), "data_offsets")
header_case("offsets as truths", lambda h: h["items"].update(data_offsets=[False, True]), "data_offsets")
header_case(
    "overlapping offsets",
    lambda h: h["scores"].update(data_offsets=h["items"]["data_offsets"]),
    "without gaps",
)
header_case(
    "a gap",
    lambda h: h["scores"].update(data_offsets=[o + 2 for o in h["scores"]["data_offsets"]]),
    "without gaps",
)
header_case("another dtype", lambda h: h["scores"].update(dtype="F64"), 'scores is "F64"')
header_case("a dtype that is none", lambda h: h["scores"].update(dtype=["U16"]), "scores is")
header_case("another shape", lambda h: h["items"].update(shape=[1, 16]), "items is")
header_case(
    "a shape that overflows", lambda h: h["scores"].update(shape=[2**62, 2**62, 2**62, 16]), "scores is"
)
header_case("a long shape", lambda h: h["items"].update(shape=[1] * 150), "items is")
header_case("a tensor that is a list", lambda h: h.update(items=[]), "items is not described")
header_case("more about a tensor", lambda h: h["items"].update(more=1), "items is not described")

# Arrays that cannot be.
body_case("NaN", lambda a: a["range"].__setitem__((0, 0, 0), np.nan), "range does not hold")
body_case("infinity", lambda a: a["range"].__setitem__((0, 0, 0, 1), np.inf), "range does not hold")
body_case(
    "a range the wrong way round",
    lambda a: a.update(range=a["range"][..., ::-1].copy()),
    "range does not hold",
)
body_case("unsorted items", lambda a: a.update(items=a["items"][::-1].copy()), "not distinct and ascending")
body_case("an item twice", lambda a: a["items"].__setitem__(1, a["items"][0]), "not distinct and ascending")
body_case("another image", lambda a: a["items"].__setitem__(0, 0), "test set is another", "false")
body_case("huge scores", lambda a: a["range"].__setitem__(..., [-3.4e38, 3.4e38]), "does not follow", "false")
body_case(
    "other scores", lambda a: a.update(scores=a["scores"][..., ::-1].copy()), "does not follow", "false"
)


def _exact_nan(folder: Path) -> None:
    header, body = tensors(folder)
    shape = header["scores"]["shape"]
    items = body[slice(*header["items"]["data_offsets"])]
    scores = np.full(shape, np.nan, dtype=np.float32).tobytes()
    told = {
        "items": {**header["items"], "data_offsets": [0, len(items)]},
        "scores": {"dtype": "F32", "shape": shape, "data_offsets": [len(items), len(items) + len(scores)]},
    }
    resign(folder, packed(told, items + scores))


FILES["NaN in full width"] = Hostile(_exact_nan, "scores hold NaN or infinity")


# Files that are none.
def _linked(name: str) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        elsewhere = folder.parents[2] / f"elsewhere-{folder.name}-{name}"
        (folder / name).rename(elsewhere)
        (folder / name).symlink_to(elsewhere)

    return change


def _replaced(name: str, make: Callable[[Path], object]) -> Callable[[Path], object]:
    return lambda folder: ((folder / name).unlink(), make(folder / name))


for file in (ENTRY, SCORES):
    FILES[f"{file} is a link"] = Hostile(_linked(file), f"{file}: is not a file but a link")
    FILES[f"{file} is a pipe"] = Hostile(_replaced(file, os.mkfifo), f"{file}: is not a file but a link")
    FILES[f"{file} is a folder"] = Hostile(_replaced(file, Path.mkdir), f"{file}: is not a file but a link")
    FILES[f"{file} is missing"] = Hostile(
        lambda folder, file=file: (folder / file).unlink(), f"has no {file}"
    )
    FILES[f"{file} is a link to a device"] = Hostile(
        _replaced(file, lambda at: at.symlink_to("/dev/zero")), f"{file}: is not a file but a link"
    )
    FILES[f"{file} is a link to nothing"] = Hostile(
        _replaced(file, lambda at: at.symlink_to("nothing")), f"{file}: is not a file but a link"
    )


@folder_case("a sparse file of four gigabytes", "larger than 268,435,456 bytes")
def _sparse(folder: Path) -> None:
    os.truncate(folder / SCORES, 2**32)


@folder_case("the entry is a link", "is not a folder but a link or a file")
def _entry_link(folder: Path) -> None:
    elsewhere = folder.parents[2] / f"elsewhere-{folder.name}"
    folder.rename(elsewhere)
    folder.symlink_to(elsewhere)


@folder_case("the entry is a file", "is not a folder but a link or a file")
def _entry_file(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.write_text("hello")


@folder_case("the track is a link", "is not a folder but a link or a file")
def _track_link(folder: Path) -> None:
    elsewhere = folder.parents[2] / "elsewhere"
    elsewhere.mkdir()
    folder.rename(elsewhere / folder.name)
    (folder.parent.parent / "small-v3").symlink_to(elsewhere)


@folder_case("a track that there is none of", "unknown track 'small-v2'")
def _no_track(folder: Path) -> None:
    put(folder, "track", "small-v2")
    (folder.parent.parent / "small-v2").mkdir()
    folder.rename(folder.parent.parent / "small-v2" / folder.name)


# What else stands there.
CANARY = "import pathlib; pathlib.Path(__file__).with_name('canary').write_text('run')\n"
for extra in (
    "setup.py", "conftest.py", "sitecustomize.py", "pyproject.toml", "tracks.toml", ".gitattributes", ".git",
    "entry.JSON", "entry.json ", "entry.json~", "a\nb", "a\x1b[2J", "\u202eentry.json", "x" * 200,
):  # fmt: skip
    FILES[f"an extra {extra[:20]!r}"] = Hostile(
        lambda folder, extra=extra: (folder / extra).write_text(CANARY), "which is no part of a submission"
    )
FILES["an extra folder"] = Hostile(
    lambda folder: (folder / "images").mkdir(), "holds 'images', which is no part of a submission"
)
FILES["an extra name that is no text"] = Hostile(
    lambda folder: Path(os.fsdecode(os.fsencode(folder) + b"/\xff\xfe")).write_text(""),
    "which is no part of a submission",
)

# Names of folders.
for name in (
    "hostile 1", "Hostile-1", "HOSTILE-1", "h\u043estile-1", "hostile-1.", "-hostile-1", ".hostile-1", "..hostile-1",
    "hostile..1", "hostile-1\n", "hostile\x1b[31m-1", "hostile\u202e-1", "hostile\u200b-1", "hostile_1", "hostile-1~",
    "...", "~", "hostile\\1", "$(id)", "%2e%2e", "-", "--rerun", "hostile-1\udcff",
):  # fmt: skip
    FILES[f"a folder called {name!r}"] = Hostile(
        lambda folder, name=name: folder.rename(folder.parent / name),
        "may hold small letters, digits, dashes and dots only",
    )
FILES["a folder with a long name"] = Hostile(
    lambda folder: folder.rename(folder.parent / ("h" * 250)), "which is another folder"
)

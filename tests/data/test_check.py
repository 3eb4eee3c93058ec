"""``retune data check`` says whether a copy is complete, before a run finds out."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import asdict
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from retune.cli.main import main
from retune.data.check import check

READER = '''
"""Six radiographs of four patients."""
from dataclasses import dataclass
import numpy as np
from retune.data.dataset import Dataset
from retune.data.images import FileImages
from retune.data.readers.base import Published, Reader
from retune.data.views import Views, in_views

@dataclass(frozen=True)
class Small(Reader):
    """Six radiographs."""

    name = "small"
    needs_root = True
    source = licence = ""
    labels = ("Edema", "Mass")
    published = Published(images=6, patients=4, positives={"Edema": 3})

    views: Views = "frontal"

    def read(self, root):
        folder = self.require_root(root)
        rows = [line.split(",") for line in (folder / "table.csv").read_text().split()]
        names, patients, views, edema, mass = np.array(rows).T
        keep = np.flatnonzero(in_views(views, self.views))
        gone = len(names) - len(keep)
        targets = np.array([edema, mass]).T.astype(np.float32)[keep]
        return Dataset(
            name="small", labels=self.labels, image_id=names[keep], patient_id=patients[keep],
            split=np.where(patients == "d", "test", "train")[keep], targets=targets,
            images=FileImages(names[keep], folder), dropped={"view": gone} if gone else {},
        )
'''
TABLE = """0.png,a,PA,1,nan
1.png,a,lateral,0,1
2.png,b,AP,1,nan
3.png,c,PA,0,0
4.png,d,PA,1,0
5.png,d,PA,0,nan
"""


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A complete copy of a small data set, and its reader in ``reader.py``."""
    (tmp_path / "reader.py").write_text(READER)
    (tmp_path / "table.csv").write_text(TABLE)
    noise = np.random.default_rng(0).integers(0, 256, (6, 32, 32), dtype=np.uint8)
    for k, pixels in enumerate(noise):
        Image.fromarray(pixels).save(tmp_path / f"{k}.png")
    return tmp_path


def call(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(["data", "check", *arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def of(copy: Path) -> list[str]:
    return [str(copy / "reader.py"), "--root", str(copy)]


def row(out: str, name: str) -> list[str]:
    """The cells of a table's row."""
    (line,) = (line for line in out.splitlines() if line.startswith(f"{name}  "))
    return line.removeprefix(name).split()


def test_a_complete_copy(capsys: pytest.CaptureFixture[str], copy: Path) -> None:
    code, out, err = call(capsys, *of(copy))
    assert code == 0
    assert row(out, "images") == ["6", "6"]
    assert row(out, "patients") == ["4", "4"]
    assert [row(out, name) for name in ("missing", "decoded on trial", "damaged")] == [["0"], ["6"], ["0"]]
    assert [row(out, split) for split in ("train", "valid", "test")] == [["4", "3"], ["0", "0"], ["2", "1"]]
    # Present, absent, unknown, present as published.
    assert row(out, "Edema") == ["3", "3", "0", "3"]
    assert row(out, "Mass") == ["1", "2", "3", "-"]
    assert out.splitlines()[-1].startswith("Complete: every picture is there")
    assert err.splitlines() == [
        "reading the table ...",
        "looking for the pictures ...",
        "decoding pictures ...",
    ]


def test_all_views_are_checked_unless_told_otherwise(capsys: pytest.CaptureFixture[str], copy: Path) -> None:
    assert "views=all" in call(capsys, *of(copy))[1]
    code, out, _ = call(capsys, *of(copy), "--set", "data.views=frontal")
    assert "1 image left out: view" in out
    assert row(out, "images") == ["5", "6"]
    # What a filter leaves cannot be held against the published counts, nor is it incomplete.
    assert row(out, "patients") == ["4", "-"]
    assert row(out, "Edema") == ["3", "2", "0"]
    assert code == 0


def _lose(copy: Path) -> None:
    for k in (1, 4):
        (copy / f"{k}.png").unlink()


def _cut(copy: Path) -> None:
    (copy / "2.png").write_bytes((copy / "2.png").read_bytes()[:200])


def _shorten(copy: Path) -> None:
    (copy / "table.csv").write_text(TABLE[: TABLE.rindex("5.png")])


def _other_patients(copy: Path) -> None:
    (copy / "table.csv").write_text(TABLE.replace(",c,", ",b,"))


def _other_labels(copy: Path) -> None:
    (copy / "table.csv").write_text(TABLE.replace("0.png,a,PA,1", "0.png,a,PA,0"))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (_lose, ["2 of 6 images are missing", "Missing: 1.png, 4.png"]),
        (_cut, ["1 of 6 images decoded on trial are damaged", "2.png: cannot be decoded"]),
        (_shorten, ["the table holds 5 of the 6 images published", "but every picture in it is there"]),
        (_other_patients, ["there are 3 of the 4 patients"]),
        (_other_labels, ["fewer images than published show Edema"]),
    ],
)
def test_an_incomplete_copy(
    capsys: pytest.CaptureFixture[str],
    copy: Path,
    monkeypatch: pytest.MonkeyPatch,
    spoil: object,
    words: list[str],
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert callable(spoil)
    spoil(copy)
    code, out, _ = call(capsys, *of(copy))
    assert code == 1
    assert out.splitlines()[-1].startswith("Incomplete: ")
    assert "Complete" not in out
    for word in words:
        assert word in out


def test_more_than_published_is_shown_and_complete(capsys: pytest.CaptureFixture[str], copy: Path) -> None:
    (copy / "table.csv").write_text(TABLE.replace("5.png,d,PA,0", "5.png,d,PA,1"))
    code, out, _ = call(capsys, *of(copy))
    assert code == 0
    assert row(out, "Edema") == ["4", "2", "0", "3"]


@pytest.mark.parametrize(
    ("decode", "decoded", "damaged"), [("0", 0, 0), ("3", 3, 1), ("2", 2, 0), ("all", 6, 2)]
)
def test_pictures_decoded_are_evenly_spaced(copy: Path, decode: str, decoded: int, damaged: int) -> None:
    for k in (1, 2):
        (copy / f"{k}.png").write_bytes(b"no picture")
    found = check(str(copy / "reader.py"), copy, decode=None if decode == "all" else int(decode))
    assert (found.decoded, found.damaged, len(found.damaged_messages)) == (decoded, damaged, damaged)


def test_many_missing_and_damaged_are_told_in_order_and_cut_short(copy: Path) -> None:
    rows = [f"{k}.png,p{k},PA,0,0\n" for k in range(200)]
    (copy / "table.csv").write_text("".join(rows))
    for k in range(6, 100):
        (copy / f"{k}.png").write_bytes(b"no picture")
    seen: dict[str, list[tuple[int, int]]] = {}
    found = check(
        str(copy / "reader.py"),
        copy,
        decode=None,
        progress=lambda stage, done, total: seen.setdefault(stage, []).append((done, total)),
    )
    assert (found.missing, found.decoded, found.damaged) == (100, 100, 94)
    assert found.missing_names == ("100.png", "101.png", "102.png", "103.png", "104.png")
    assert [Path(m.partition(":")[0]).name for m in found.damaged_messages] == [
        f"{k}.png" for k in range(6, 11)
    ]
    assert {stage: steps[-1] for stage, steps in seen.items()} == {
        "reading the table": (1, 1),
        "looking for the pictures": (200, 200),
        "decoding pictures": (100, 100),
    }


def test_damage_inside_counts_and_contradictions_are_told_apart(
    capsys: pytest.CaptureFixture[str], copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    pydicom = pytest.importorskip("pydicom")
    jpeg = BytesIO()
    Image.open(copy / "0.png").save(jpeg, "JPEG", quality=95)
    (copy / "0.png").write_bytes(jpeg.getvalue()[:900] + b"\xff\xd9")
    for k in range(1, 6):
        header = pydicom.Dataset()
        header.SOPClassUID, header.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.1.1", "1.2.3"
        header.file_meta = pydicom.dataset.FileMetaDataset()
        header.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        header.Rows = header.Columns = 32
        header.SamplesPerPixel, header.PixelRepresentation = 1, 0
        header.BitsAllocated, header.BitsStored, header.HighBit = 8, 8, 7
        header.PhotometricInterpretation = "MONOCHROME1"
        header.PresentationLUTShape = "IDENTITY" if k > 2 else "INVERSE"
        header.PixelData = np.asarray(Image.open(copy / f"{k}.png")).tobytes()
        header["PixelData"].VR = "OB"
        header.save_as(copy / f"{k}.png", enforce_file_format=True)
    code, out, _ = call(capsys, *of(copy))
    assert code == 1
    assert (row(out, "damaged"), row(out, "contradictory")) == (["1"], ["3"])
    assert "0.png: is damaged inside (" in out
    said = [line for line in out.splitlines() if line.startswith("Contradictory: ")]
    assert [line.split()[1] for line in said] == ["3.png:", "4.png:", "5.png:"]
    assert all("MONOCHROME1 and PresentationLUTShape IDENTITY" in line for line in said)
    assert out.splitlines()[-1] == "Incomplete: 1 of 6 images decoded on trial are damaged."
    # A header that contradicts itself costs nothing.
    (copy / "0.png").write_bytes((copy / "1.png").read_bytes())
    code, out, _ = call(capsys, *of(copy))
    assert (code, row(out, "contradictory")) == (0, ["3"])


def test_json_is_what_the_library_gives(capsys: pytest.CaptureFixture[str], copy: Path) -> None:
    _cut(copy)
    code, out, _ = call(capsys, *of(copy), "--json", "--decode", "all")
    found = check(str(copy / "reader.py"), copy, decode=None)
    expected = {**asdict(found), "complete": False, "problems": list(found.problems)}
    assert code == 1
    assert json.loads(out) == json.loads(json.dumps(expected))
    assert len(found.problems) == 1


def test_phantom_has_nothing_to_miss(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call(capsys, "phantom", "--set", "images=60", "--set", "size=32", "--decode", "7")
    assert code == 0
    assert "synthetic" in out
    assert "published" not in out
    assert row(out, "decoded on trial") == ["7"]


def test_the_sample_of_nih_is_a_part_of_nih(
    capsys: pytest.CaptureFixture[str], nih_sample: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    code, out, _ = call(capsys, "nih", "--root", str(nih_sample), "--decode", "20")
    assert code == 1
    assert row(out, "images") == ["621", "112,120"]
    assert row(out, "Hernia") == ["20", "601", "0", "227"]
    assert "the table holds 621 of the 112,120 images published" in " ".join(out.split())
    assert max(map(len, out.splitlines())) <= 80


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nhi"], "did you mean nih"),
        (["nih"], "--root DIR is needed"),
        (["nih", "--root", "/no/such/folder"], "/no/such/folder"),
        (["phantom", "--root", "somewhere"], "has no files"),
        (["phantom", "--decode", "many"], "--decode"),
        (["phantom", "--decode", "-1"], "--decode"),
        (["phantom", "--set", "imges=3"], "did you mean images"),
        (["nih", "--root", ".", "--set", "views=oblique"], "views"),
        (["nih", "--root", "."], "Data_Entry_2017"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = call(capsys, *arguments)
    assert (code, out) == (2, "")
    (line,) = (line for line in err.splitlines() if not line.endswith(" ..."))
    assert line.startswith("error: ")
    assert words in line


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom retune.cli.main import main\nmain(['data', 'check', '--help'])\n"
        "print([m for m in ('torch', 'pandas', 'pydicom', 'PIL') if m in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert re.search(r"retune data check", done.stdout)

"""Pictures decoded in processes: the same pixels and mistakes, no process left, and one line for one that is killed."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from retune.backbones.base import Backbone, BackboneCard
from retune.data.dataset import Dataset
from retune.data.dicom import NOTE
from retune.data.images import FileImages
from retune.data.processes import decoding
from retune.errors import BadImage, RetuneError
from retune.features.encode import BATCH, LATELY, encode_images

SIDE = 8

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/task").is_dir(), reason="children are looked up in /proc"
)


def decoders() -> list[int]:
    """Processes begun by this one that decode, those among them that nobody has waited for."""
    tasks = Path("/proc/self/task")
    children = {int(pid) for task in tasks.iterdir() for pid in (task / "children").read_text().split()}
    return sorted(
        pid
        for pid in children
        if (command := Path(f"/proc/{pid}/cmdline").read_bytes()) == b"" or b"retune.data.decoder" in command
    )


def grey(n: int) -> np.ndarray:
    return np.random.default_rng(n).integers(0, 256, (30, 20), dtype=np.uint8)


def dicom(path: Path) -> None:
    """A file whose header contradicts itself."""
    pydicom = pytest.importorskip("pydicom")
    header = pydicom.Dataset()
    header.file_meta = pydicom.dataset.FileMetaDataset()
    header.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    header.Rows, header.Columns, header.SamplesPerPixel = 30, 20, 1
    header.PhotometricInterpretation, header.PixelRepresentation = "MONOCHROME2", 0
    header.BitsAllocated, header.BitsStored, header.HighBit = 16, 12, 11
    header.PresentationLUTShape = "INVERSE"
    header.PixelData = (grey(0).astype(np.uint16) * 16).tobytes()
    header.preamble = bytes(128)
    header.save_as(path)


@pytest.fixture
def files(tmp_path: Path) -> FileImages:
    """Good, odd and bad files of every kind."""
    Image.fromarray(grey(1)).save(tmp_path / "a.png")
    Image.fromarray(grey(2).astype(np.uint16) * 250).save(tmp_path / "b.png")
    Image.fromarray(grey(3)).resize((300, 400)).save(tmp_path / "c.jpg")
    Image.fromarray(grey(4)).resize((300, 400)).convert("RGB").save(tmp_path / "ä.jpg")
    (tmp_path / "cut.png").write_bytes((tmp_path / "a.png").read_bytes()[:200])
    (tmp_path / "text.jpg").write_text("{}")
    (tmp_path / "folder.png").mkdir()
    dicom(tmp_path / "d.dcm")
    names = ["a.png", "b.png", "c.jpg", "ä.jpg", "cut.png", "text.jpg", "folder.png", "none.png", "d.dcm"]
    return FileImages(np.array(names), tmp_path, np.arange(len(names)) == 1)


def told(pictures: list[Image.Image | BadImage]) -> list[object]:
    return [
        str(p) if isinstance(p, BadImage) else (np.asarray(p).tolist(), p.info.get(NOTE)) for p in pictures
    ]


def test_a_process_decodes_the_same_and_a_killed_one_is_told_in_a_line(files: FileImages) -> None:
    rows = np.arange(len(files.paths))
    here = told(files.load(rows, 64))
    with decoding(1):
        assert told(files.load(rows, 64)) == here
        assert told(files.load(rows[:2])) == here[:2]
        (process,) = decoders()
        assert "libtorch" not in Path(f"/proc/{process}/maps").read_text()
        os.kill(process, signal.SIGINT)  # As Ctrl-C does; who began it decides.
        assert told(files.load(rows, 64)) == here
        os.kill(process, signal.SIGKILL)
        with pytest.raises(
            RetuneError, match=r"a\.png: the process .* killed by signal 9; .*again"
        ) as caught:
            files.load(rows, 64)
        assert "\n" not in str(caught.value)
        assert decoders() == []
        assert told(files.load(rows, 64)) == here  # Nobody waits for what has ended.
    assert isinstance(here[-1], tuple)
    assert here[-1][1]


def test_where_no_process_can_be_begun_files_are_decoded_here(
    files: FileImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = told(files.load(np.arange(3)))
    for python in ("/nowhere/python", "/bin/true"):
        monkeypatch.setattr("sys.executable", python)
        with decoding(2):
            assert told(files.load(np.arange(3))) == here
            assert told(files.load(np.arange(3))) == here
        assert decoders() == []


class Means(Backbone):
    """Means of pictures."""

    name = "means"
    frozen_for = 0.0
    """Seconds that a batch takes."""
    card = BackboneCard("here", "none", ("none",), SIDE, 2)  # type: ignore[assignment]
    fingerprint = "means"  # type: ignore[assignment]
    parameters = 0  # type: ignore[assignment]

    def preprocess(self, image: Image.Image) -> torch.Tensor:
        return torch.from_numpy(np.array(image.resize((SIDE, SIDE))))

    def encode_images(self, pixels: torch.Tensor) -> torch.Tensor:
        time.sleep(self.frozen_for)
        return pixels.float().mean((1, 2))[:, None].repeat(1, 2)

    def encode_texts(self, texts: Sequence[str]) -> torch.Tensor:
        raise NotImplementedError


def many(images: FileImages) -> Dataset:
    """A data set of these pictures, all to train on."""
    ids, n = images.paths, len(images.paths)
    return Dataset("many", ("A",), ids, ids, np.full(n, "train"), np.zeros((n, 1), np.float32), images)


def test_on_many_cores_files_are_encoded_from_processes_which_ctrl_c_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("retune.features.encode.cores", lambda: 4)
    monkeypatch.setattr("retune.features.encode.PAYS", BATCH)
    n, seen = 2 * BATCH, list[int]()
    for k in range(n):
        Image.new("L", (9, 9), k).save(tmp_path / f"{k}.png")
    data = many(FileImages(np.array([f"{k}.png" for k in range(n)]), tmp_path))

    class Interrupted(Means):
        def encode_images(self, pixels: torch.Tensor) -> torch.Tensor:
            seen.append(len(decoders()))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        encode_images(Interrupted(), data, np.arange(n))
    assert seen == [2]
    assert decoders() == []
    found = encode_images(Means(), data, np.arange(n))
    np.testing.assert_array_equal(found.features[:, 0], np.arange(n))
    assert decoders() == []


def test_it_is_told_which_of_the_two_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    class Same(FileImages):
        """The same picture under every name, loaded in so many seconds."""

        seconds = 0.0

        def load(self, rows: np.ndarray, at_least: int | None = None) -> list[Image.Image | BadImage]:
            time.sleep(self.seconds)
            return [Image.new("L", (9, 9))] * len(rows)

        def keys(self, rows: np.ndarray) -> list[bytes | None]:
            return [int(row).to_bytes(32, "big") for row in rows]

    n = BATCH * (LATELY + 6)
    data = many(Same(np.arange(n).astype(str)))
    for Same.seconds, batch, waiting in ((0.02, 0.0, "pictures"), (0.0, 0.05, "the model")):
        monkeypatch.setattr(Means, "frozen_for", batch)
        monkeypatch.setattr(Means, "fingerprint", waiting)
        heard = list[str]()
        encode_images(
            Means(), data, np.arange(n), progress=lambda stage, done, total, heard=heard: heard.append(stage)
        )
        assert heard[0] == "encoding images"
        assert heard[-1] == f"encoding images (waiting for {waiting})"

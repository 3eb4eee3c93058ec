"""From files to features: decoding against bare Pillow, the whole pipeline against the bare encoder, bf16 against fp32.

    python tests/benchmarks/bench_encoding.py [--root DIR] [--images 48]

Pictures are the phantom's, of 1024 px, written as PNG and JPEG; with DIR, radiographs of NIH ChestX-ray14 as they
are, and the same as JPEG and as DICOM of 12 bits. The encoder is a ViT-B/16 at 224 px with random weights in
open_clip's format. All figures are CPU seconds of this process, both sides in turn, so that neighbours count little:
the bare side has its pixels in memory; the pipeline finds, hashes, decodes, resizes, normalises, encodes and stores.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import open_clip
import pydicom
import torch
from PIL import Image
from safetensors.torch import save_file

from retune.backbones.base import Backbone
from retune.backbones.load import load_backbone
from retune.data.dataset import Dataset
from retune.data.images import FileImages
from retune.data.phantom import BENCHMARK_SITES, exams, render
from retune.data.readers.nih import NIH
from retune.data.readers.phantom import Phantom
from retune.features.encode import BATCH, encode_images

ARCHITECTURE = "ViT-B-16"
A_CORE = 60.0
"""Pictures a second that a core is to decode, resize and hash."""
PIPELINE = 0.95


def line(what: str, goal: str, measured: str, met: bool) -> None:
    """Print what was asked and what came of it."""
    print(f"{what}: goal {goal}, measured {measured}: {'met' if met else 'not met'}", flush=True)


def random_vit(folder: Path) -> str:
    """A folder in open_clip's format with a randomly initialised model."""
    torch.manual_seed(0)
    model = open_clip.create_model(ARCHITECTURE, pretrained=None)
    save_file(
        {k: v.contiguous() for k, v in model.state_dict().items()}, folder / "open_clip_model.safetensors"
    )
    config = {"model_cfg": open_clip.get_model_config(ARCHITECTURE), "preprocess_cfg": {}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    return f"local-dir:{folder}"


def written(folder: Path, n: int) -> dict[str, list[Path]]:
    """Phantom pictures as files of each kind."""
    kinds: dict[str, list[Path]] = {"8-bit PNG, 1024 px": [], "16-bit PNG, 1024 px": [], "JPEG, 700 px": []}
    for k, pixels in enumerate(render(exams(0, n, BENCHMARK_SITES), range(n), size=1024)):
        image, deep = Image.fromarray(pixels), Image.fromarray(pixels.astype(np.uint16) * 200 + k)
        for files, each, name in zip(
            kinds.values(),
            (image, deep, image.resize((700, 700))),
            (f"{k}.png", f"{k}-16.png", f"{k}.jpg"),
            strict=True,
        ):
            each.save(folder / name)
            files.append(folder / name)
    return kinds


def converted(folder: Path, files: list[Path]) -> dict[str, list[Path]]:
    """Radiographs as they are, as JPEG, and as DICOM of 12 bits; under other names, pictures are the same to no store."""
    kinds: dict[str, list[Path]] = {"real PNG": files, "real JPEG": [], "real DICOM": []}
    for file in files:
        image = Image.open(file).convert("L")
        kinds["real JPEG"].append(folder / f"{file.stem}.jpg")
        image.save(kinds["real JPEG"][-1], quality=95)
        header = pydicom.Dataset()
        header.file_meta = pydicom.dataset.FileMetaDataset()
        header.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        header.Rows, header.Columns, header.SamplesPerPixel = image.height, image.width, 1
        header.PhotometricInterpretation, header.PixelRepresentation = "MONOCHROME2", 0
        header.BitsAllocated, header.BitsStored, header.HighBit = 16, 12, 11
        header.PixelData = (np.asarray(image).astype(np.uint16) * 16).tobytes()
        header.preamble = bytes(128)
        kinds["real DICOM"].append(folder / f"{file.stem}.dcm")
        header.save_as(kinds["real DICOM"][-1])
    return kinds


def bare_picture(file: Path, at_least: int) -> Image.Image:
    """A file as Pillow, or pydicom, decodes it in the fewest words."""
    if file.suffix == ".dcm":
        return Image.fromarray((pydicom.dcmread(file).pixel_array >> 4).astype(np.uint8))
    image = Image.open(BytesIO(file.read_bytes()))
    image.draft("L", (at_least, at_least))
    image.load()
    return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)) if image.mode == "I;16" else image


def cpu(work: Callable[[], object]) -> float:
    """CPU seconds of some work."""
    start = time.process_time()
    work()
    return time.process_time() - start


def decoding(backbone: Backbone, kind: str, files: list[Path]) -> None:
    """Pictures a second and core from file to the model's input, beside bare decoding and resizing."""
    side, rows = backbone.card.image_size, np.arange(len(files))

    def ours() -> None:
        with tempfile.TemporaryDirectory() as cache:
            os.environ["RETUNE_CACHE"] = cache
            images = FileImages(np.array([str(file) for file in files]))
            images.keys(rows)
            for picture in images.load(rows, 2 * side):
                assert isinstance(picture, Image.Image)
                backbone.preprocess(picture)

    def bare() -> None:
        for file in files:
            bare_picture(file, 2 * side).resize((side, side), Image.Resampling.BICUBIC)

    ours(), bare()
    pairs = [(cpu(ours) / len(files), cpu(bare) / len(files)) for _ in range(3)]
    mine, theirs = (min(each) for each in zip(*pairs, strict=True))
    line(
        f"{kind}, from file to model, hashed and checked",
        f"{A_CORE:.0f} pictures/s a core",
        f"{1 / mine:.0f} ({theirs / mine:.2f} times the bare decoder's {1 / theirs:.0f}, unchecked)",
        1 / mine >= A_CORE,
    )


def encoding(backbone: Backbone, data: Dataset, kind: str) -> tuple[float, torch.Tensor]:
    """Images per CPU second of the bare encoder, and the features; prints the pipeline beside it."""
    side, n = backbone.card.image_size, len(data)
    pixels = torch.randint(0, 256, (BATCH, side, side), dtype=torch.uint8)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # As the pipeline does it, as many batches at once as there are cores.
    backbone.encode_images(pixels[:1])  # Reads the weights.
    before = cpu(lambda: backbone.encode_images(pixels)) / BATCH
    encoded = []
    # A last batch that is not full costs what a full one does.
    piped = cpu(lambda: encoded.append(encode_images(backbone, data, np.arange(n)))) / (
        -(-n // BATCH) * BATCH
    )
    after = cpu(lambda: backbone.encode_images(pixels)) / BATCH
    torch.set_num_threads(threads)
    alone = (before + after) / 2
    line(
        f"{kind}, {backbone.precision}: the whole pipeline against the bare encoder",
        f"{PIPELINE}",
        f"{alone / piped:.3f} ({1 / piped:.2f} and {1 / alone:.2f} images per CPU second)",
        alone / piped >= PIPELINE,
    )
    again = encode_images(backbone, data, np.arange(n)).images_encoded
    line(f"{kind}, {backbone.precision}: encoded a second time", "0", str(again), again == 0)
    return 1 / alone, torch.from_numpy(encoded[0].features)


def main(words: list[str] | None = None) -> None:
    """Measure and print a line each: what, goal, measured beside its peer, met or not."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", type=Path, help="of NIH ChestX-ray14; the phantom's pictures if left out")
    parser.add_argument("--images", type=int, default=64, help="a multiple of 64")
    parser.add_argument("--decoding-only", action="store_true")
    arguments = parser.parse_args(words)
    with tempfile.TemporaryDirectory() as folder:
        name = random_vit(Path(folder))
        backbone = load_backbone(name)
        kinds = written(Path(folder), 24)
        if arguments.root:
            radiographs = NIH().read(arguments.root)
            files = [radiographs.images.path(row) for row in range(arguments.images)]  # type: ignore[attr-defined]
            kinds |= converted(Path(folder), files)
        for kind, files in kinds.items():
            decoding(backbone, kind, files[:200])
        if arguments.decoding_only:
            return
        if not arguments.root:
            # Copies under other names would be one picture to the store: a note at the end makes each another.
            paths = []
            for k in range(arguments.images):
                paths.append(Path(folder) / f"copy{k}.png")
                paths[-1].write_bytes(kinds["8-bit PNG, 1024 px"][k % 24].read_bytes() + str(k).encode())
            kinds = {"8-bit PNG, 1024 px": paths}
        table = Phantom(images=arguments.images).read(None)
        os.environ["RETUNE_CACHE"] = f"{folder}/cache"
        sets = {
            kind: replace(table, images=FileImages(np.array([str(file) for file in files])))
            for kind, files in kinds.items()
            if len(files) == arguments.images
        }
        whole = {kind: encoding(backbone, data, kind) for kind, data in sets.items()}
        kind, data = next(iter(sets.items()))
        half = encoding(load_backbone(name, precision="bf16"), data, kind)
        speeds, vectors = zip(whole[kind], half, strict=True)
        cosine = torch.nn.functional.cosine_similarity(*vectors)
        print(
            f"bf16 against fp32: {speeds[1] / speeds[0]:.2f} times the speed, "
            f"cosine mean {cosine.mean():.5f}, lowest {cosine.min():.5f}"
        )


if __name__ == "__main__":
    main()

"""Models of the hub: files are fetched once, then read from the local cache without a network."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from huggingface_hub.errors import RemoteEntryNotFoundError

from retune.backbones.openclip.model import OpenClip
from retune.backbones.pair.text import TextHalf

COMMIT = "0" * 40
Files = dict[str, dict[str, Path]]


def put(cache: Path, repository: str, name: str, source: Path) -> Path:
    """Lay a file out as huggingface_hub keeps it."""
    root = cache / f"models--{repository.replace('/', '--')}"
    snapshot = root / "snapshots" / COMMIT
    snapshot.mkdir(parents=True, exist_ok=True)
    (root / "refs").mkdir(exist_ok=True)
    (root / "refs" / "main").write_text(COMMIT)
    (snapshot / name).parent.mkdir(exist_ok=True)
    return Path(shutil.copy(source, snapshot / name))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "hub"
    folder.mkdir()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(folder))
    return folder


@pytest.fixture
def hub(saved: dict[str, Path], tmp_path: Path) -> Files:
    """What two repositories of a hub hold: a model, and the text tower that it names."""
    folder = saved["bert"]
    config = (folder / "open_clip_config.json").read_text()
    renamed = tmp_path / "config.json"
    renamed.write_text(config.replace('"text-tower"', '"org/bert"').replace('"anything"', '"org/bert"'))
    return {
        "org/model": {
            "open_clip_config.json": renamed,
            "open_clip_model.safetensors": folder / "open_clip_model.safetensors",
        },
        "org/bert": {
            "config.json": folder / "text-tower" / "config.json",
            "tokenizer.json": folder / "tokenizer.json",
            "tokenizer_config.json": folder / "tokenizer_config.json",
        },
    }


def agree(there: OpenClip, here: OpenClip) -> None:
    texts = ["no edema", "pleural effusion"]
    assert torch.equal(there.encode_texts(texts), here.encode_texts(texts))
    pixels = torch.randint(0, 256, (2, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(there.encode_images(pixels), here.encode_images(pixels))
    assert there.card.dim == 24


def test_a_cached_model_asks_no_network(
    saved: dict[str, Path], hub: Files, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(repository: str, name: str) -> str:
        raise AssertionError(f"asked for {name} of {repository}")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", refuse)
    for repository, files in hub.items():
        for name, source in files.items():
            put(cache, repository, name, source)
    there = OpenClip("hf-hub:org/model")
    agree(there, OpenClip(f"local-dir:{saved['bert']}"))
    assert len(there.fingerprint) == 64


def test_what_is_not_cached_is_fetched_once(
    saved: dict[str, Path], hub: Files, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, str]] = []

    def fetch(repository: str, name: str) -> str:
        asked.append((repository, name))
        if name not in hub[repository]:
            answer: Any = httpx.Response(404, request=httpx.Request("GET", "https://hub.invalid"))
            raise RemoteEntryNotFoundError("404", response=answer)
        return str(put(cache, repository, name, hub[repository][name]))

    monkeypatch.setattr("huggingface_hub.hf_hub_download", fetch)
    first = OpenClip("hf-hub:org/model")
    fingerprint = first.fingerprint
    agree(first, OpenClip(f"local-dir:{saved['bert']}"))
    fetched = [pair for pair in asked if pair[1] in hub[pair[0]]]
    assert sorted(fetched) == sorted((repo, name) for repo, files in hub.items() for name in files)
    asked.clear()
    assert OpenClip("hf-hub:org/model").fingerprint == fingerprint
    assert not asked


def test_how_texts_are_pooled_is_asked_where_transformers_fetched_the_rest(
    towers: Callable[[str], Path], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, reached = towers("sentences"), False

    def fetch(repository: str, name: str, **_: Any) -> str:
        if not reached:
            raise OSError("no network")
        return str(put(cache, repository, name, folder / name))

    monkeypatch.setattr("huggingface_hub.hf_hub_download", fetch)
    for path in folder.glob("*"):
        if path.is_file() and path.name != "modules.json":
            put(cache, "org/model", path.name, path)
    without = TextHalf("hf-hub:org/model").fingerprint
    reached = True
    assert TextHalf("hf-hub:org/model").fingerprint == TextHalf(f"local-dir:{folder}").fingerprint != without

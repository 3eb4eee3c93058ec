"""A name leads to the right backbone, from a folder or from a hub that is asked once and briefly."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from retune.backbones.hf.model import TransformersDual
from retune.backbones.load import load_backbone
from retune.backbones.openclip.model import OpenClip
from retune.errors import MissingFiles, UserError

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Hub:
    """A hub on this machine: it answers for the files of one folder and remembers what it was asked."""

    folder: Path
    url: str = ""
    asked: list[str] = field(default_factory=list)
    broken: int = 0


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    state = Hub(tmp_path / "repository")

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.answer(body=False)

        def do_GET(self) -> None:
            self.answer(body=True)

        def answer(self, *, body: bool) -> None:
            _, _, rest = self.path.partition("/org/model/resolve/")
            name = rest.partition("/")[2]
            state.asked.append(f"{self.command} {name}")
            path = state.folder / name
            self.send_response(state.broken or (200 if name and path.is_file() else 404))
            self.send_header("X-Repo-Commit", COMMIT)
            if state.broken or not path.is_file():
                self.send_header("X-Error-Code", "GatedRepo" if state.broken else "EntryNotFound")
            data = path.read_bytes() if name and path.is_file() else b""
            self.send_header("ETag", f'"{sha256(data).hexdigest()}"')
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if body:
                self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield state
    server.shutdown()
    thread.join()
    server.server_close()


def ask(code: str, cache: Path, url: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run code in a process of its own: the hub's client reads where the hub is when it is imported."""
    kept = {k: v for k, v in os.environ.items() if "proxy" not in k.lower() and not k.startswith("HF_")}
    environment = kept | {"HF_HOME": str(cache), "HF_ENDPOINT": url, "HF_HUB_DISABLE_XET": "1"} | settings
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment
    )


LOAD = """
from retune.backbones.load import load_backbone
from retune.errors import UserError
try:
    backbone = load_backbone("hf-hub:org/model", device="cpu")
    print(type(backbone).__name__, backbone.fingerprint)
except UserError as error:
    print(error)
"""


@pytest.mark.parametrize(("kind", "adapter"), [("clip", "TransformersDual"), ("plain", "OpenClip")])
def test_a_model_of_the_hub_is_fetched_once(
    duals: dict[str, Path], saved: dict[str, Path], hub: Hub, tmp_path: Path, kind: str, adapter: str
) -> None:
    folder = (duals | saved)[kind]
    shutil.copytree(folder, hub.folder)
    if kind == "plain":
        # What a tokenizer's name leads to is another repository; this one serves as both.
        config = (hub.folder / "open_clip_config.json").read_text()
        (hub.folder / "open_clip_config.json").write_text(config.replace('"anything"', '"org/model"'))
    else:
        (hub.folder / "README.md").write_text("---\nlicense: mit\n---\n")
    first = ask(LOAD, tmp_path / "cache", hub.url)
    assert first.stderr == ""
    assert first.stdout.split()[0] == adapter
    if kind == "clip":
        assert first.stdout.split()[1] == load_backbone(f"local-dir:{folder}").fingerprint
        assert "GET README.md" in hub.asked
    fetched = [line for line in hub.asked if line.startswith("GET")]
    assert len(fetched) == len(set(fetched)) >= 4
    hub.asked.clear()
    assert ask(LOAD, tmp_path / "cache", hub.url).stdout == first.stdout
    assert hub.asked == []
    # Nothing of it needs a network from now on.
    assert ask(LOAD, tmp_path / "cache", "http://127.0.0.1:9").stdout == first.stdout


def test_a_download_that_broke_off_is_completed(duals: dict[str, Path], hub: Hub, tmp_path: Path) -> None:
    whole = Path(shutil.copytree(duals["clip"], hub.folder))
    weights = (whole / "model.safetensors").read_bytes()
    (whole / "model.safetensors").unlink()
    broken = ask(LOAD, tmp_path / "cache", hub.url)
    assert "has no model.safetensors" in broken.stdout
    (whole / "model.safetensors").write_bytes(weights)
    (whole / "tokenizer_config.json").write_text("{}")
    hub.asked.clear()
    done = ask(LOAD, tmp_path / "cache", hub.url)
    assert done.stdout.split()[1] == load_backbone(f"local-dir:{duals['clip']}").fingerprint
    # What is there, and what is known not to be, is not asked for again.
    assert {name for line in hub.asked if (name := line.partition(" ")[2])} == {"model.safetensors"}


@pytest.mark.parametrize("settings", [{}, {"HF_HUB_OFFLINE": "1"}], ids=["closed port", "offline"])
def test_a_hub_that_cannot_be_reached_is_told_soon(tmp_path: Path, settings: dict[str, str]) -> None:
    start = time.monotonic()
    done = ask(LOAD, tmp_path, "http://127.0.0.1:9", **settings)
    assert time.monotonic() - start < 10
    (line,) = done.stdout.splitlines()
    for part in ("hf-hub:org/model", "cannot be reached", "hf download org/model", "local-dir:FOLDER"):
        assert part in line
    assert done.stderr == ""


def test_a_hub_that_refuses(hub: Hub, tmp_path: Path) -> None:
    hub.folder.mkdir()
    for status, part in ((403, "accept its terms and run 'hf auth login'"), (503, "cannot be reached")):
        hub.broken, start = status, time.monotonic()
        (line,) = ask(LOAD, tmp_path / "cache", hub.url).stdout.splitlines()
        assert part in line
        assert time.monotonic() - start < 10


def test_a_hub_that_knows_no_such_model(hub: Hub, tmp_path: Path) -> None:
    hub.folder.mkdir()
    done = ask(LOAD, tmp_path / "cache", hub.url)
    assert done.stdout.strip() == "hf-hub:org/model: has no open_clip_config.json or config.json"


def test_the_format_of_a_folder_decides(
    dual: Callable[..., Path], copied: Callable[..., Path], tmp_path: Path
) -> None:
    theirs, ours = dual("clip"), copied("plain")
    assert type(load_backbone(f"local-dir:{theirs}")) is TransformersDual
    assert type(load_backbone(f"local-dir:{ours}")) is OpenClip
    shutil.copy(theirs / "config.json", ours)
    assert type(load_backbone(f"local-dir:{ours}")) is OpenClip


@pytest.mark.parametrize(
    ("config", "kind"),
    [
        (
            {"model_type": "dinov2", "hidden_size": 32, "image_size": 32, "patch_size": 8},
            "an image tower only",
        ),
        ({"model_type": "resnet", "num_channels": 3, "embedding_size": 64}, "an image tower only"),
        ({"model_type": "bert", "hidden_size": 32, "vocab_size": 100}, "a text tower only"),
    ],
)
def test_a_single_tower_is_told_what_to_do(tmp_path: Path, config: dict[str, Any], kind: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="write pair:VISION") as caught:
        load_backbone(f"local-dir:{tmp_path}")
    assert kind in str(caught.value)


@pytest.mark.parametrize("scheme", ["hf-hub", "local-dir", "open_clip"])
def test_a_name_without_a_model(scheme: str) -> None:
    with pytest.raises(UserError, match="names no model"):
        load_backbone(f"{scheme}:")


def test_a_folder_of_no_format(tmp_path: Path) -> None:
    with pytest.raises(MissingFiles, match=r"holds no open_clip_config\.json and no config\.json"):
        load_backbone(f"local-dir:{tmp_path}")


def test_choosing_an_adapter_imports_nothing_heavy(duals: dict[str, Path]) -> None:
    code = (
        "import sys\n"
        "from retune.backbones.load import load_backbone\n"
        f"backbone = load_backbone('local-dir:{duals['clip']}')\n"
        "print(backbone.fingerprint, backbone.parameters)\n"
        "for name in ('pubmed-clip', 'medsiglip', 'xray-siglip'):\n"
        "    print(load_backbone(name).card)\n"
        "heavy = {'torch', 'open_clip', 'transformers', 'timm'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("BackboneCard") == 3

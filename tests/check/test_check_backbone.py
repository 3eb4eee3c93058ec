"""``check_backbone``: the starting point passes, a broken one fails its check by name, and a run tells it in a line."""

from __future__ import annotations

from pathlib import Path

import pytest

from retune.check.backbone import CHECKS, Encoder
from retune.check.checks import made
from retune.cli.main import main
from retune.plugins import registry
from retune.scaffold import starting_point

TEXT = starting_point("our-towers", "two-towers")
IMAGES, TEXTS = 'return (pixels.flatten(1) / 127.5 - 1) @ self.weights["image"]', "mean(0) for row in rows])"
BROKEN = [
    ("encodes", IMAGES, f"{IMAGES}.double()"),
    ("encodes", "(SIDE, SIDE), Image", "(SIDE, SIDE + 1), Image"),
    ("says-what-it-is", 'licence="of the weights"', 'licence=""'),
    ("says-what-it-is", '"joint", "pixels"', '"joint", "pixel"'),
    ("same-picture-same-bits", IMAGES, f"{IMAGES} + torch.rand(1)"),
    ("batch-size-does-not-matter", IMAGES, f"{IMAGES} + len(pixels)"),
    ("batch-size-does-not-matter", TEXTS, f"{TEXTS} + len(texts)"),
    ("pictures-are-told-apart", "(pixels.flatten(1) / 127.5 - 1)", "(pixels.flatten(1) * 0 + 1.0)"),
    ("texts-share-the-space", "(WORDS, DIM)", "(WORDS, DIM + 1)"),
    ("keeps-what-it-declares", '"pixels"})', '"pixels", "trainable-tower"})'),
    ("fingerprint-is-of-the-weights", ', "weights": tensor_digest(self.weights)', ""),
    ("fingerprint-is-of-the-weights", "return fingerprint(", "return 'mine' or fingerprint("),
    ("changes-nothing-global", IMAGES, f"torch.rand(1); {IMAGES}"),
]


def test_a_new_backbone_works_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["new", "backbone", "our-towers"]) == 0
    assert "retune run --backbone ./our_towers.py" in capsys.readouterr().out
    assert main(["check", "backbone", "./our_towers.py"]) == 0
    assert f"keeps the contract: {len(CHECKS)} checks passed" in capsys.readouterr().out
    broken = {
        "makes": TEXT.replace("    name =", "    def __init__(self):\n        [][0]\n\n    name ="),
        "encodes": TEXT.replace(
            "        with torch.inference", "        [][0]\n        with torch.inference"
        ),
    }
    settings = ["--set", "data.images=60", "--set", "data.size=64", "--steps", "1"]
    for name, text in broken.items():
        # Not the one whose features are kept.
        Path(f"{name}.py").write_text(text.replace('"adapter": 1', '"adapter": 2'))
        assert main(["run", "--backbone", f"./{name}.py", "--strategy", "ridge", *settings]) == 2
        told = capsys.readouterr().err.splitlines()[-1]
        assert f"backbone ./{name}.py: " in told
        assert "IndexError" in told
        assert f"retune check backbone ./{name}.py" in told


@pytest.mark.parametrize(
    ("demand", "right", "wrong"), BROKEN, ids=[f"{demand}-{k}" for k, (demand, _, _) in enumerate(BROKEN)]
)
def test_a_broken_backbone_fails_its_check(tmp_path: Path, demand: str, right: str, wrong: str) -> None:
    assert right in TEXT
    file = tmp_path / "mine.py"
    file.write_text(TEXT.replace(right, wrong))
    (check,) = (check for check in CHECKS if check.name == demand)
    outcome, reason, _ = made(check, Encoder(registry("backbones").load(str(file)), {}), limit=20)
    assert outcome == "failed", reason


def test_every_check_is_failed_by_something() -> None:
    assert {demand for demand, _, _ in BROKEN} == {check.name for check in CHECKS}

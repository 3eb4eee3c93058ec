"""From a finished run to a folder that holds its model and tells what it is."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from retune.errors import UserError
from retune.files import PARTIAL, make_folder, storing, write_whole
from retune.leaderboard.submit import without_folder
from retune.learnt.card import card, metrics
from retune.learnt.model import ABOUT_FILE, Exported
from retune.methods.memory import PREFIX, Stored, metered
from retune.results.cautions import cautions
from retune.results.result import MODEL_FILE, PROMPTS_FILE, RESULT_FILE, RUN_FILE, Result
from retune.runner.kept import Kept, kept_prompts, unpack
from retune.sealed import Untrusted, seal_json

CARD_FILE: Final = "README.md"
METRICS_FILE: Final = ".eval_results/retune.yaml"
ANEW: Final = "run it again with --out and another folder"


@dataclass(frozen=True)
class Written:
    """An export.

    Args:
        folder: Where it is.
        about: What it says of itself.
        bytes: Size of all files.
        stored: What it holds of single training images.
        existed: Whether it stood there already.
    """

    folder: Path
    about: Exported
    bytes: int
    stored: Stored
    existed: bool


def export(run: str | Path, out: str | Path, *, with_samples: bool = False) -> Written:
    """Write what a run learnt into a folder of its own, whole or not at all; the same run gives the same bytes.

    Args:
        run: Folder of a finished run.
        out: A folder that is not there yet, or is empty, or holds just this.
        with_samples: Whether pictures or vectors of training images that the method keeps may go with it.

    Raises:
        UserError: If the run is not finished, was made by an earlier version or on features made elsewhere, keeps
            samples that may not go with it, or something else is in the folder.
        StorageError: If the disk is full.
    """
    source, folder = Path(run), Path(out)
    result, kept = finished(source)
    result = _told(result)
    stored = metered(kept.state)
    if any(key.startswith(PREFIX) for key in kept.state) and not with_samples:
        raise UserError(
            f"{result.strategy.called} keeps samples of {max(stored.images, stored.features):,} training images, "
            "and its model holds them",
            where=str(source),
            fix="if they may be passed on, add --with-samples",
        )
    bank = kept_prompts(result, source)
    about = _about(result)
    files = {
        MODEL_FILE: (source / MODEL_FILE).read_bytes(),
        PROMPTS_FILE: b"".join(prompt.line for prompt in bank.prompts),
        CARD_FILE: card(result, stored).encode(),
        METRICS_FILE: metrics(result).encode(),
        ABOUT_FILE: seal_json(about.model_dump(by_alias=True)),
    }
    existed = _standing(folder, files)
    if not existed:
        _write(folder, files)
    return Written(folder, about, sum(map(len, files.values())), stored, existed)


def finished(folder: Path) -> tuple[Result, Kept]:
    """A finished run and what it learnt.

    Raises:
        UserError: If it is not finished, was made by an earlier version or on features made elsewhere, or is not as it
            was written.
    """
    where, file = str(folder), folder / MODEL_FILE
    if (folder / RUN_FILE).exists() and not (folder / RESULT_FILE).exists():
        raise UserError("the run is not finished", where=where, fix="issue its command again")
    result = Result.read(folder)
    if result.backbone.looked_up:
        raise UserError(
            "its features were made elsewhere and looked up by image id, so that it can score no picture",
            where=where,
            fix="run it on a backbone that encodes",
        )
    if not result.model_digest:
        what = "its run did not keep what was learnt: it was made by an earlier version"
        raise UserError(what, where=where, fix=ANEW)
    try:
        kept = unpack(file.read_bytes(), file, "state of a strategy", fix=ANEW)
    except OSError as error:
        raise UserError(f"cannot be read ({error.strerror})", where=str(file), fix=ANEW) from None
    if kept.digest != result.model_digest:
        raise Untrusted("is not what the run beside it learnt", where=str(file), fix=ANEW)
    return result, kept


def _told(result: Result) -> Result:
    """A result as strangers may read it: no folder of this machine, nothing that the model does not need."""
    backbone = result.backbone.model_copy(update={"name": without_folder(result.backbone.name)})
    strategy = result.strategy.model_copy(update={"diagnostics": {}, "search": None})
    told = result.model_copy(update={"backbone": backbone, "strategy": strategy})
    said = {
        "synthetic": ["Learnt from computed pictures only: on real radiographs its scores mean nothing."],
        "partly synthetic": ["Learnt from computed pictures, too."],
    }
    computed = said.get(told.dataset.synthetic_word, [])
    return told.model_copy(update={"cautions": [*computed, *cautions(told)]})


def _about(result: Result) -> Exported:
    run, data = result.run, result.dataset
    views = sorted({view for e in result.scenario.experiences for view in e.holds.get("view", {}) if view})
    return Exported.model_validate(
        {
            "run": {
                **{name: getattr(run, name) for name in ("id", "created", "seed", "versions", "threads")},
                "steps": len(result.scenario.experiences),
            },
            "data": {
                "name": data.name,
                "fingerprint": data.fingerprint,
                "synthetic": data.synthetic,
                "scenario": Path(result.scenario.name).name,
                "views": views,
            },
            "labels": result.labels,
            "thresholds": result.thresholds,
            "strategy": result.strategy.model_dump(),
            "backbone": result.backbone.model_dump(),
            "prompts": result.prompts.model_dump(),
            "cautions": result.cautions,
            "model_digest": result.model_digest,
        }
    )


def _standing(folder: Path, files: Mapping[str, bytes]) -> bool:
    """Whether just these files stand there already.

    Raises:
        UserError: If something else does.
    """
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return False
    if all((folder / name).is_file() and (folder / name).read_bytes() == files[name] for name in files):
        return True
    raise UserError("holds something else", where=str(folder), fix="choose another --out")


def _write(folder: Path, files: Mapping[str, bytes]) -> None:
    make_folder(folder.parent)
    with storing(folder):
        half = Path(tempfile.mkdtemp(dir=folder.parent, prefix=PARTIAL))
    try:
        for name, content in files.items():
            make_folder((half / name).parent)
            write_whole(half / name, content)
        half.chmod(0o755)
        with storing(folder):
            # Over an empty folder, or none.
            half.rename(folder)
    except BaseException:
        shutil.rmtree(half, ignore_errors=True)
        raise

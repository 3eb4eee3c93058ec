"""What goes into an entry of some runs, and what of them stays at home: folders, names of images, labels."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load_file

from retune.errors import RetuneError, UserError, mistake
from retune.leaderboard.entry import SCHEMA, SCORES_FILE, Entry
from retune.leaderboard.numbers import BOOTSTRAP, Numbers, Run, differences, measure, rounded
from retune.leaderboard.scores import TOLERANCE, Scores, pack, unpack
from retune.plugins import BUILT_IN, registry
from retune.results.image_digests import salted
from retune.results.result import SCORES_FILE as RUN_SCORES
from retune.results.result import Result


@dataclass(frozen=True)
class Said:
    """What only the submitter knows.

    Args:
        method: Name of the method; the strategy's where left out.
        version: Of the entry.
        authors: Of the method.
        paper: Link to it.
        code: Link to it.
        note: A line of one's own.
    """

    method: str | None = None
    version: str = "1"
    authors: Sequence[str] = ()
    paper: str | None = None
    code: str | None = None
    note: str | None = None


def assemble(track: str, group: Sequence[tuple[Result, Path]], said: Said) -> tuple[Entry, bytes, int]:
    """An entry, its scores in as few bits as its numbers allow, and how many these are.

    Args:
        track: Id of the track that all runs are on.
        group: Runs of one method with their folders, by seed.
        said: What only the submitter knows.

    Raises:
        UserError: If two runs have one seed, have different test images, or lack what an entry needs.
    """
    results = [result for result, _ in group]
    seeds = [r.run.seed for r in results]
    twice = next((seed for seed in seeds if seeds.count(seed) > 1), None)
    if twice is not None:
        same = [str(folder) for result, folder in group if result.run.seed == twice]
        raise UserError(f"two runs have seed {twice}: {same[0]} and {same[1]}", fix="submit one of them")
    arrays = [_arrays(folder) for _, folder in group]
    salt = hashlib.sha256("\0".join(r.run.id for r in results).encode()).hexdigest()[:32]
    items = salted(arrays[0]["items"], salt)
    for (_, folder), one in zip(group, arrays, strict=True):
        for name in ("items", "targets", "patients"):
            if not np.array_equal(one[name], arrays[0][name], equal_nan=name == "targets"):
                raise UserError(
                    "has other test images than the other runs",
                    where=str(folder),
                    fix="submit runs on one test set",
                )
    # The test set's own order decides how patients are resampled, that of the items how scores are written.
    first = [np.array(r.first, dtype=np.int64) for r in results]
    exact = np.stack([one["scores"] for one in arrays]).astype(np.float32)
    runs = [Run(seed, f, s) for seed, f, s in zip(seeds, first, exact, strict=True)]
    numbers = measure(runs, arrays[0]["targets"], arrays[0]["patients"], BOOTSTRAP)
    order = np.lexsort(items.T[::-1])
    scores = Scores(items[order], np.ascontiguousarray(exact[:, :, order]))
    for bits in (16, 32):
        packed = pack(scores, exact=bits == 32)
        entry = _entry(track, results, numbers, said, salt, packed)
        back = np.empty_like(exact)
        back[:, :, order] = unpack(packed, entry, SCORES_FILE).values
        runs = [Run(seed, f, s) for seed, f, s in zip(seeds, first, back, strict=True)]
        again = measure(runs, arrays[0]["targets"], arrays[0]["patients"], BOOTSTRAP)
        if max(by for _, by in differences(entry, again)) <= TOLERANCE:
            return entry, packed, bits
    raise RetuneError("the numbers of these runs do not follow from their scores; run them again")


def _arrays(folder: Path) -> dict[str, npt.NDArray[Any]]:
    file = folder / RUN_SCORES
    try:
        arrays: dict[str, npt.NDArray[Any]] = load_file(file)
    except (OSError, SafetensorError) as error:
        raise UserError(f"cannot be read ({error})", where=str(file), fix="run it again") from error
    missing = sorted({"scores", "targets", "patients", "items"} - arrays.keys())
    if missing:
        raise UserError(
            f"holds no {missing[0]}: it was written by an older version",
            where=str(file),
            fix="remove the run's folder and run it again",
        )
    return arrays


def _entry(
    track: str, results: list[Result], numbers: Numbers, said: Said, salt: str, packed: bytes
) -> Entry:
    one = results[0]
    strategy, backbone, data = one.strategy, one.backbone, one.dataset
    document = {
        "schema": SCHEMA,
        "track": track,
        "method": {
            "name": said.method or _called(strategy.name),
            "version": said.version,
            "authors": list(said.authors),
            "paper": said.paper or (None if said.method else _paper_of(strategy.name, strategy.origin)),
            "code": said.code,
            "note": said.note,
        },
        "strategy": {
            "name": strategy.name,
            "version": strategy.version,
            "origin": strategy.origin,
            "settings": {} if strategy.search else strategy.settings,
            "sees_everything": strategy.sees_everything,
            "keeps_samples": strategy.keeps_samples,
            "searched": strategy.search is not None,
        },
        "backbone": {
            "name": _without_folder(backbone.name),
            "fingerprint": backbone.fingerprint,
            "pretraining_data": backbone.pretraining_data,
            "licence": backbone.licence,
            "dim": backbone.dim,
            "contaminated": backbone.contaminated,
            "synthetic": backbone.synthetic,
            "looked_up": backbone.looked_up,
            "precision": backbone.precision,
        },
        "prompts": {"name": Path(one.prompts.name).name, "fingerprint": one.prompts.fingerprint},
        "data": {
            "name": data.name,
            "fingerprint": data.fingerprint,
            "settings": data.settings,
            "labels": data.labels,
            "n_train": data.n_train,
            "n_test": data.n_test,
            "n_test_patients": data.n_test_patients,
            "synthetic": data.synthetic,
            "repeated_images": data.repeated_images,
            "unreadable_images": len(data.unreadable_images),
        },
        "scenario": {
            "name": one.scenario.name,
            "settings": one.scenario.settings,
            "steps": len(one.scenario.experiences),
        },
        "salt": salt,
        "bootstrap": BOOTSTRAP.model_dump(),
        "metrics": rounded(numbers.metrics),
        "scores": {"sha256": hashlib.sha256(packed).hexdigest(), "bytes": len(packed)},
        "runs": [_run(*both) for both in zip(results, numbers.matrices, numbers.values, strict=True)],
    }
    try:
        return Entry.model_validate(document)
    except ValidationError as error:
        given = error.errors()[0]["input"]
        shown = f" (given: {given!r})" if isinstance(given, str) else ""
        raise UserError(f"{mistake(error)}{shown}"[:300], where="the entry") from None


def _run(result: Result, matrix: npt.NDArray[np.float64], values: dict[str, float]) -> dict[str, Any]:
    cost = result.cost.model_dump()
    return {
        "seed": result.run.seed,
        "id": result.run.id,
        "stream": result.scenario.fingerprint,
        "device": result.backbone.device,
        "threads": result.run.threads,
        "versions": result.run.versions,
        "settings": result.strategy.settings if result.strategy.search else None,
        "first": result.first,
        "images": [e.n_train for e in result.scenario.experiences],
        "auc_matrix": rounded(matrix.tolist()),
        "values": rounded(values),
        "cost": cost,
    }


def _called(name: str) -> str:
    """A strategy's name as a method's: of a file its stem."""
    return Path(name).stem if name.endswith(".py") else name


def _paper_of(name: str, origin: str) -> str | None:
    """Where the paper can be read that a built-in strategy names, if it says."""
    if origin != BUILT_IN:
        return None
    found = re.search(r"arXiv[: ](\d{4}\.\d{4,5})", registry("strategies").load(name).paper)
    return f"https://arxiv.org/abs/{found[1]}" if found else None


def _without_folder(name: str) -> str:
    """A backbone's name without the folders of who ran it."""
    scheme, colon, rest = name.partition(":")
    if scheme == "pair":
        return "pair:" + "+".join(map(_without_folder, rest.split("+")))
    return f"{scheme}:{Path(rest).name}" if colon and scheme in ("local-dir", "features") else name

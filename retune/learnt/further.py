"""More data arriving: one more experience on top of what a run learnt, without the images that it learnt from."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from retune.backbones.base import Backbone
from retune.backbones.precision import repeatable, threads
from retune.data.chexpert_labels import Blank, Uncertain
from retune.data.dataset import Dataset
from retune.data.readers.base import Reader
from retune.data.several import combine
from retune.data.source import DataSource
from retune.errors import StrategyError, UserError
from retune.learnt.here import backbone_of, strategy_of
from retune.learnt.past import Continued, lost, past
from retune.learnt.write import finished
from retune.methods.memory import PREFIX, Stored, metered
from retune.methods.strategy import State, Strategy
from retune.metrics import best_f1_threshold, continual_report
from retune.parts import part
from retune.progress import Progress, silent
from retune.results.result import FILES, RESULT_FILE, Result
from retune.results.scores import read_scores
from retune.runner.guard import Guard, stdout_to_stderr
from retune.runner.identity import identification
from retune.runner.images import Inputs, encode
from retune.runner.kept import kept_prompts
from retune.runner.loop import Outcome, threads_for
from retune.runner.moments import LEVEL
from retune.runner.plan import Plan, run_id, stream_of
from retune.runner.record import record
from retune.runner.resolve import Parts, require_capabilities
from retune.runner.run import claim
from retune.runner.session import Session, begin
from retune.runner.spec import Spec
from retune.runner.trained import Trained

ROUNDING: Final = 1e-4
"""By how much a score may move when a label is added: products of other sizes round otherwise."""


def further(
    run: str | Path,
    *,
    data: str | type[Reader] | Reader,
    root: str | Path | Mapping[str, str | Path] | None = None,
    settings: Mapping[str, Any] | None = None,
    uncertain: Uncertain | None = None,
    blank: Blank | None = None,
    same_labels: bool = False,
    strategy: str | type[Strategy] | None = None,
    backbone: str | type[Backbone] | Backbone | None = None,
    device: str = "auto",
    skip_bad_images: bool = False,
    out: str | Path | None = None,
    progress: Progress = silent,
) -> tuple[Result, Path]:
    """Let a run's model learn from one more experience, and judge it on the earlier test images and the new ones.

    The earlier run stays as it is. Its images are not needed: its test images are judged by their features, where the
    feature store has them all.

    Args:
        run: Folder of a finished run.
        data: Data set that arrives: its name, class, or an instance with settings.
        root: Folder of its files.
        settings: Of the data set.
        uncertain: What its uncertain labels count as.
        blank: What its labels not mentioned count as.
        same_labels: Leave out labels that the run does not know; else they are learnt, where the method can.
        strategy: The Python file or the class of the strategy, where it is one's own.
        backbone: Where the backbone is here, if its name does not tell.
        device: Where to encode and learn.
        skip_bad_images: Leave out images that are missing or cannot be decoded.
        out: Folder of the continued run; ``RUN+1`` where left out.
        progress: Told what is done.

    Returns:
        Its result, whose moments are before any training, as the run ended, and after the new experience; its folder.

    Raises:
        UserError: If the run or the data cannot be continued with.
        RunConflict: If another run is in the folder.
    """
    arriving = part("datasets", data, "data")
    data, settings = arriving.name, {**arriving.settings, **(settings or {})}
    home = Path(run)
    folder = Path(out) if out is not None else _next(home)
    earlier, kept = finished(home)
    where = str(home)
    if earlier.strategy.sees_everything:
        what = f"{earlier.strategy.called} is given everything at once, and cannot go on"
        raise UserError(what, where=where, fix="run it again on all data")
    with stdout_to_stderr():
        encoder = backbone_of(earlier.backbone, where, backbone, device)
        method = strategy_of(earlier.strategy, where, strategy)
        require_capabilities(method, method.name, encoder)
    source = DataSource.make(data, root, settings, uncertain=uncertain, blank=blank)
    arrived, arrays = source.read(), read_scores(earlier, home)
    known, fresh = list(earlier.labels), [label for label in arrived.labels if label not in earlier.labels]
    labels = known + ([] if same_labels else fresh)
    if not set(labels) & set(arrived.labels):
        raise UserError(
            "has none of the run's labels", where=f"data set {data}", fix="leave out --same-labels"
        )
    old = past(earlier, arrays, where)
    missing = lost(old, encoder, method, progress)
    joined = combine([old.take(np.arange(0 if missing else len(old))), arrived]).with_labels(labels)
    step = int(earlier.scenario.settings.get("step", len(earlier.scenario.experiences))) + 1
    learnt = tuple(label for label, first in zip(known, earlier.first, strict=True) if first)
    parts = Parts(
        source,
        Continued(learnt, step),
        method,
        earlier.strategy.origin,
        encoder,
        kept_prompts(earlier, home),
        strategy_code=earlier.strategy.code,
        preset=earlier.strategy.preset,
    )
    spec = Spec(
        seed=earlier.run.seed,
        device=device,
        precision=encoder.precision,
        skip_bad_images=skip_bad_images,
        replicates=earlier.bootstrap.replicates,
    )
    planned = _plan(earlier, parts, spec, joined, progress)
    _require_apart(planned, old, where)
    claim(folder, planned)
    if (folder / RESULT_FILE).exists():
        return Result.read(folder), folder
    try:
        outcome = _learn(planned, earlier, kept.state, strategy, step, progress)
    except (UserError, StrategyError):
        _remove(folder)
        raise
    command = f"retune continue {home.name} --data {data}" + (" --root DIR" if root else "")

    def amend(document: dict[str, Any]) -> None:
        _amend(document, planned, outcome, earlier, missing)

    return record(planned, outcome, folder, command, progress, amend), folder


def undo(folder: str | Path) -> str:
    """Remove a continued run; the run before it is as it was. Returns that run's id.

    Raises:
        UserError: If it is no continued run.
    """
    found = Result.read(folder)
    if found.continued is None:
        raise UserError(
            "was not continued from another run",
            where=str(folder),
            fix=f"give the folder of one, as {_next(Path(folder))}",
        )
    _remove(Path(folder))
    return found.continued.run


def _remove(folder: Path) -> None:
    """Remove a run's files, and its folder where nothing else is in it; the mark goes last."""
    for name in (*FILES, ".lock"):
        (folder / name).unlink(missing_ok=True)
    if not any(folder.iterdir()):
        folder.rmdir()


def _next(home: Path) -> Path:
    """``RUN+1`` after ``RUN``, ``RUN+2`` after that."""
    home = home.resolve() if not home.name else home
    number = re.fullmatch(r"(.+)\+(\d{1,6})", home.name)
    return home.with_name(f"{number[1]}+{int(number[2]) + 1}" if number else f"{home.name}+1")


def _plan(earlier: Result, parts: Parts, spec: Spec, joined: Dataset, progress: Progress) -> Plan:
    parts.bank.require(joined.labels)
    found = stream_of(parts, spec, joined, progress)
    identity = {
        **parts.identity(),
        "continues": [earlier.run.id, earlier.model_digest],
        "dataset": found.dataset,
        "stream": found.fingerprint,
        "images": found.images,
        "seed": spec.seed,
        "replicates": spec.replicates,
        "skip_bad_images": spec.skip_bad_images,
    }
    return Plan(spec, parts, found.stream, found.content, run_id(identity), found.repeated)


def _require_apart(planned: Plan, old: Dataset, where: str) -> None:
    """See that nothing is learnt from that the run is judged on."""
    taught = set((planned.content or [])[: len(planned.stream.joint())])
    same = sum(key in taught for key in old.images.keys(np.arange(len(old))))
    if same:
        raise UserError(
            f"{same:,} of its test images are training images of the data that arrive", where=where,
            fix="leave them out of these, or nothing can be said of what it keeps",
        )  # fmt: skip


def _learn(
    planned: Plan,
    earlier: Result,
    state: State,
    strategy: str | type[Strategy] | None,
    step: int,
    progress: Progress,
) -> Outcome:
    parts, encoder = planned.parts, planned.parts.backbone
    with repeatable(encoder.torch_device):
        inputs = encode(planned, progress)
        with threads(threads_for(parts.needs)):
            stream = inputs.stream
            session = Session(planned, inputs, patients_from=_patients(state))
            learner, trained = session.begin(parts.strategy), Trained(parts.strategy)
            scores = [session.score(learner, stream.test, 0)]
            progress("learning", 0, 1)
            known = len(earlier.labels)
            try:
                with trained.watched():
                    learner.resume(state)
                scores.append(session.score(learner, stream.test, 1))
                if len(stream.labels) > known:
                    _require_same(scores[1][:, :known], inputs, planned, earlier, state, strategy)
            except StrategyError as error:
                if len(stream.labels) == known:
                    raise
                raise _cannot_add(earlier, stream.labels[known:]) from error
            shown = stream.experiences[1]
            with trained.watched():
                seconds = session.fit(learner, replace(shown, step=step), 2)
            scores.append(session.score(learner, stream.test, 2))
            training = session.score(learner, shown.rows, 2).numpy()
            limits = np.array(
                [np.nan if t is None else t for t in earlier.thresholds]
                + [np.nan] * len(stream.labels[known:])
            )
            for c in shown.observed:
                if np.isnan(limits[c]):
                    limits[c] = best_f1_threshold(shown.targets[:, c], training[:, c])
            after = learner.state()
            progress("learning", 1, 1)
            return Outcome(
                stream,
                torch.stack(scores),
                limits,
                parts.strategy,
                trainable_parameters=max(learner.trained(), trained.count(after)),
                diagnostics=learner.diagnostics(),
                fit_seconds=seconds,
                encode_seconds=inputs.seconds,
                images_encoded=inputs.images_encoded,
                unreadable=inputs.unreadable,
                threads=torch.get_num_threads(),
                stored=metered(state).most(metered(after)),
                identification=identification(inputs, session.patients, after, planned.spec.replicates),
                state=after,
            )


def _patients(state: State) -> int:
    """A number that no patient has of whom the method keeps something."""
    kept = state.get(f"{PREFIX}patients")
    return int(kept.max()) + 1 if isinstance(kept, torch.Tensor) and len(kept) else 0


def _require_same(
    found: torch.Tensor,
    inputs: Inputs,
    planned: Plan,
    earlier: Result,
    state: State,
    strategy: str | type[Strategy] | None,
) -> None:
    """See that a method that was told of more labels scores those it knows as before.

    Raises:
        UserError: If it does not.
    """
    parts = planned.parts
    again: Guard = begin(
        strategy_of(earlier.strategy, earlier.run.id, strategy),
        parts.backbone,
        parts.bank,
        tuple(earlier.labels),
        seed=planned.spec.seed,
        device=inputs.device,
    )
    again.resume(state)
    with inputs.view(inputs.stream.test, again.strategy.requires()) as images:
        before = again.score(images, earlier.labels, 1)
    if not torch.allclose(found, before, rtol=ROUNDING, atol=ROUNDING):
        raise _cannot_add(earlier, inputs.stream.labels[len(earlier.labels) :])


def _cannot_add(earlier: Result, fresh: Sequence[str]) -> UserError:
    return UserError(
        f"{earlier.strategy.called} cannot take on a label later, and the data have {', '.join(fresh)}",
        fix="go on without with --same-labels, or run it anew with all labels",
    )


def _amend(document: dict[str, Any], planned: Plan, outcome: Outcome, earlier: Result, missing: int) -> None:
    """Add what the new data alone do not tell: what was learnt before, and how each part of the test images fares."""
    stream, data, cut = outcome.stream, document["dataset"], document["scenario"]
    whose = stream.dataset.columns["dataset"][stream.test]
    parts = {}
    for name in dict.fromkeys(whose.tolist()):
        of = whose == name
        report = continual_report(
            stream.targets[of], outcome.scores[:, of].numpy(), stream.first, stream.patients[of], outcome.thresholds,
            replicates=planned.spec.replicates, level=LEVEL,
        )  # fmt: skip
        wanted = ("final_auc", "zero_shot_auc", "backward_transfer")
        told = {
            key: {"value": m.value, "low": m.low, "high": m.high}
            for key in wanted
            if (m := report.metrics.get(key))
        }
        parts[name] = {"n_test": int(of.sum()), "auc_matrix": report.auc_matrix.tolist(), "metrics": told}
    document["continued"] = {"run": earlier.run.id, "parts": parts, "lost": missing}
    holds: dict[str, Counter[str]] = {}
    for experience in earlier.scenario.experiences:
        for name, counts in experience.holds.items():
            holds.setdefault(name, Counter()).update(counts)
    cut["experiences"][0] |= {
        "n_train": earlier.dataset.n_train,
        "holds": {k: dict(v) for k, v in holds.items()},
    }
    data["n_train"] += earlier.dataset.n_train
    data["name"] = f"{earlier.dataset.name},{planned.parts.source.name}"
    seen = (document["backbone"]["contaminated"], earlier.backbone.contaminated)
    document["backbone"]["contaminated"] = next(word for word in ("yes", "possibly", "no") if word in seen)
    stored = Stored(
        **{name: getattr(earlier.cost, f"stored_{name}") for name in ("images", "features", "bytes")}
    )
    most = outcome.stored.most(stored)
    document["cost"] |= {f"stored_{name}": getattr(most, name) for name in ("images", "features", "bytes")}

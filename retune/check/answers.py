"""Checks of what a strategy answers, and of what it must be able to learn from."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

import torch

from retune.check.checks import Failed, require
from retune.check.subject import Subject, same, same_state, tensors
from retune.errors import UserError
from retune.methods.declared import described, require_declared, require_needs
from retune.methods.given import PLACED
from retune.methods.memory import PREFIX
from retune.methods.strategy import Strategy
from retune.runner.trained import Trained, says
from retune.settings import make

MUCH: Final = 2
"""How many times more a strategy may say it trained than what is seen to change."""


def is_json(value: Any) -> bool:
    """Whether a value comes back from JSON as it was."""
    try:
        return bool(json.loads(json.dumps(value, allow_nan=False)) == value)
    except (TypeError, ValueError):
        return False


def runs(subject: Subject) -> None:
    """It is made, set up, learns from an experience and scores, in time."""
    strategy = subject.new()
    subject.lab.scores_after(strategy, [subject.everything(strategy, 20)])


def says_what_it_is(subject: Subject) -> None:
    """Its name, version, docstring, needs, settings and presets are in order."""
    cls = subject.cls
    owner = subject.name or cls.__name__
    try:
        require_declared(cls, owner)
        # Whether one can be made at all is for the next check to find.
        with suppress(TypeError):
            require_needs(subject.unprepared().requires(), owner)
        for preset, values in cls.presets.items():
            make(cls, values, owner=f"preset {preset}")
    except UserError as error:
        raise Failed(str(error)) from None
    known = subject.name or cls.name
    require(cls.name == known, f"it is registered as '{known}' and calls itself '{cls.name}'")
    require(described(cls), f"neither class {cls.__name__} nor its file has a docstring that says what it is")


def tells_what_it_learnt(subject: Subject) -> None:
    """Its diagnostics are plain JSON, and where it counts its parameters itself, they are what fit changes."""
    lab, strategy = subject.lab, subject.new()
    trained = Trained(strategy)
    for part in lab.stream(strategy):
        with trained.watched():
            lab.fit(strategy, [part])
    require(is_json(dict(strategy.diagnostics())), "diagnostics are not plain JSON values")
    if not says(strategy):
        return
    said, state = strategy.trainable_parameters(), strategy.state_dict()
    counts = isinstance(said, int) and not isinstance(said, bool) and said >= 0
    require(counts, f"trainable_parameters gives {said!r}, not a whole number")
    counted = trained.count(state)
    told = f"trainable_parameters says {said:,}, while fit changed {counted:,} numbers"
    require(said >= counted, f"{told}; leave it out, or name in statistics what is no parameter")
    # Samples that are kept may be trained too. What another library holds may be out of reach of the count.
    countable = not strategy.keeps_samples and (counted > 0 or not state)
    require(not countable or said <= MUCH * counted, f"{told}; leave it out")


def scores_every_label_at_every_moment(subject: Subject) -> None:
    """Before any training and after each experience: finite floating-point (N, C), the same when asked again."""
    lab, strategy = subject.lab, subject.new()
    wanted = (lab.tested, len(lab.labels))
    for step, part in enumerate([None, *lab.stream(strategy)]):
        when = f"after {step} experiences" if step else "before any training"
        lab.fit(strategy, [part] if part else [])
        scores = lab.score(strategy)
        require(tuple(scores.shape) == wanted, f"{when}: shape {tuple(scores.shape)}, not {wanted}")
        require(scores.is_floating_point(), f"{when}: {scores.dtype}, not floating-point numbers")
        odd = [lab.labels[c] for c in (~scores.isfinite()).any(dim=0).nonzero().flatten().tolist()]
        require(not odd, f"{when}: NaN or infinity for {', '.join(odd)}")
        require(same(lab.score(strategy), scores), f"{when}: scored twice, the scores differ")


def same_seed_same_result(subject: Subject) -> None:
    """Learning twice from the same stream with the same seed gives the same scores to the bit."""
    first, second = (subject.lab.score(subject.taught()) for _ in range(2))
    require(same(first, second), "two runs of one seed score differently")


def unknown_labels_have_no_influence(subject: Subject) -> None:
    """Whatever lies under a NaN, nothing changes; and an unknown label does not count as absent or present."""
    lab, scores = subject.lab, []
    # A NaN of another bit pattern is still a NaN.
    for nothing in (float("nan"), -float("nan")):
        strategy = subject.new()
        parts = lab.stream(strategy)
        for part in parts:
            part.targets[: len(part) // 2, part.observed[0]] = nothing
            part.targets[torch.isnan(part.targets)] = nothing
        scores.append(lab.scores_after(strategy, parts))
    require(same(*scores), "what lies under the mask changes the scores")
    moved = (_scores_told(subject, float("nan")) - lab.score(subject.new())).mean(dim=0)
    for value, sign, meaning in ((0.0, -1, "absent"), (1.0, 1, "present")):
        # A method that learns without labels may move scores, but not all of them one way just as labels would.
        if bool((sign * moved > 0).all()):
            as_if = same(_scores_told(subject, value), _scores_told(subject, float("nan")))
            require(not as_if, f"it learns unknown labels as {meaning} ones")


def takes_labels_with_one_class(subject: Subject) -> None:
    """A label that every image has, or none, leaves scores and state finite."""
    for value in (0.0, 1.0):
        _require_finite(subject, value)


def takes_labels_that_are_all_unknown(subject: Subject) -> None:
    """An experience in which no label is known leaves scores and state finite."""
    _require_finite(subject, float("nan"))


def takes_experiences_of_one_and_two_images(subject: Subject) -> None:
    """It learns from an experience of 1 or 2 images, and its scores stay finite."""
    lab = subject.lab
    for n in (1, 2):
        strategy = subject.new()
        for observed in (range(2), range(len(lab.labels))):
            scores = lab.scores_after(strategy, [lab.experience(strategy, n, tuple(observed), 1)])
            require(bool(scores.isfinite().all()), f"NaN or infinity after an experience of {n}")


def batch_mates_do_not_matter(subject: Subject) -> None:
    """An image scores the same alone, among others, and in another order."""
    lab, strategy = subject.lab, subject.taught()
    together = lab.score(strategy)

    def like(scores: torch.Tensor, wanted: torch.Tensor) -> bool:
        close: Callable[..., bool] = torch.allclose
        return scores.shape == wanted.shape and close(scores, wanted, rtol=1e-5, atol=2e-6, equal_nan=True)

    alone = [lab.score(strategy, lab.tests(strategy, torch.tensor([i]))) for i in range(3)]
    require(like(torch.cat(alone), together[:3]), "an image scores otherwise alone than among others")
    turned = lab.score(strategy, lab.tests(strategy, torch.arange(lab.tested).flip(0)))
    require(like(turned.flip(0), together), "scores depend on the order of the images")


def maps_belong_to_their_image(subject: Subject) -> None:
    """What dense gives is finite, of one shape, the same alone as among others, and changes nothing."""
    lab = subject.lab
    if subject.cls.dense is Strategy.dense:
        return
    for strategy in (subject.new(), subject.taught()):
        state, scores = copy.deepcopy(dict(strategy.state_dict())), lab.score(strategy)
        maps = lab.dense(strategy)
        alone = [lab.dense(strategy, lab.tests(strategy, torch.tensor([i]))) for i in range(3)]
        kept = same_state(strategy.state_dict(), state) and same(lab.score(strategy), scores)
        require(kept, "dense changed its state or what it scores")
        shapes = {_shape(maps, lab.tested), *(_shape(one, 1) for one in alone)}
        require(len(shapes) == 1, f"the shape of a map depends on how many images are asked for: {shapes}")
        if maps is not None:
            placed = bool(strategy.requires() & PLACED)
            require(placed, "dense gave maps, though it needs neither tokens nor pixels to make them of")
            few, close = torch.cat([one for one in alone if one is not None]), torch.allclose
            like = bool(close(few, maps[:3], rtol=1e-4, atol=1e-5))
            require(like, "an image's map is another alone than among others")


def _shape(maps: object, n: int) -> tuple[int, ...] | None:
    """(D, g, g) of the maps of n images; None where there are none."""
    if maps is None:
        return None
    wanted = f"float32 ({n}, D, g, g)"
    if not isinstance(maps, torch.Tensor):
        raise Failed(f"dense gave {type(maps).__name__}, not {wanted}")
    square = maps.ndim == 4 and len(maps) == n and maps.shape[2] == maps.shape[3]
    good = square and maps.dtype == torch.float32
    require(good, f"dense gave {maps.dtype} {tuple(maps.shape)}, not {wanted}")
    require(bool(maps.isfinite().all()), "NaN or infinity in what dense gave")
    return tuple(maps.shape[1:])


def _scores_told(subject: Subject, value: float) -> torch.Tensor:
    """Scores after an experience in which every label of every image is told to be one value."""
    strategy = subject.new()
    part = subject.everything(strategy, 24)
    part.targets[:] = value
    return subject.lab.scores_after(strategy, [part])


def _require_finite(subject: Subject, value: float) -> None:
    lab, strategy = subject.lab, subject.new()
    for observed in (range(2), range(len(lab.labels))):
        part = lab.experience(strategy, 20, tuple(observed), 1)
        part.targets[:, list(observed)] = value
        scores = lab.scores_after(strategy, [part])
        require(
            bool(scores.isfinite().all()), f"NaN or infinity in the scores after labels that are all {value}"
        )
        for key, kept in strategy.state_dict().items():
            for tensor in tensors(kept):
                known = tensor[~tensor.isnan()]
                # Nothing but 0, 1 and NaN: no weights that a division spoilt.
                targets = key.startswith(PREFIX) or len(known) > 0
                handed = len(known) < tensor.numel() and targets and bool(((known == 0) | (known == 1)).all())
                require(
                    not handed,
                    f"'{key}' of state_dict holds targets as they were handed over, with NaN for what is unknown: "
                    "give that a number, as SampleMemory of retune/methods/memory.py does",
                )
                why = f"NaN or infinity in '{key}' of state_dict after labels that are all {value}"
                require(bool(tensor.isfinite().all()), why)

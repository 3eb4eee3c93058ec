"""All checks of a strategy: what the runner relies on, shown on a few made-up images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from retune.check import answers, conduct, state
from retune.check.checks import Check, ContractReport, made, require_settings, run_checks, taken
from retune.check.subject import Subject
from retune.errors import UserError
from retune.methods.declared import require_declared
from retune.methods.strategy import Strategy
from retune.progress import Progress
from retune.runner.guard import stdout_to_stderr

CHECKS: Final = tuple(
    Check[Subject](demand)
    for demand in (
        answers.says_what_it_is,
        answers.runs,
        answers.scores_every_label_at_every_moment,
        answers.same_seed_same_result,
        state.resumed_equals_uninterrupted,
        state.state_round_trips,
        state.state_is_what_it_learnt,
        answers.unknown_labels_have_no_influence,
        answers.takes_labels_with_one_class,
        answers.takes_labels_that_are_all_unknown,
        answers.takes_experiences_of_one_and_two_images,
        answers.batch_mates_do_not_matter,
        answers.maps_belong_to_their_image,
        answers.tells_what_it_learnt,
        state.past_images_are_out_of_reach,
        state.memory_declared_equals_memory_used,
        conduct.leaves_its_targets_alone,
        conduct.leaves_the_backbone_as_it_is,
        conduct.changes_nothing_global,
        conduct.prints_nothing,
    )
)
LIMIT: Final = 20.0
"""Seconds that a check may take; on so few images a strategy needs a fraction of one."""


SHOWN: Final = 1200
TESTED: Final = 500


def check_strategy(
    strategy: str | type[Strategy] | Strategy,
    settings: Mapping[str, Any] | None = None,
    *,
    limit: float = LIMIT,
    progress: Progress | None = None,
) -> ContractReport:
    """See whether a strategy keeps the contract, in a few seconds on made-up images.

    It learns in one epoch of small batches where it has settings ``epochs`` and ``batch_size``.

    Args:
        strategy: Name of a strategy, a Python file, a class, or an instance.
        settings: Others than the default ones; values may be text.
        limit: Seconds that a check may take; all together take three times as long at most.
        progress: Called with what is done, how much of it and how much there is to do.

    Raises:
        UserError: If there is no such strategy or setting, or it cannot be imported.
    """
    with stdout_to_stderr():
        asked, settings = taken("strategies", strategy, settings)
        subject = Subject.of(asked, settings)
        # Of a class that is not in order, a check says what is to be mended: it may lack the very settings.
        if _in_order(subject):
            require_settings(subject.unprepared)
        findings = run_checks(CHECKS, subject, first=2, limit=limit, progress=progress)
        remarks = (_learns(subject, limit),) if all(f.outcome == "passed" for f in findings) else ()
    name = asked if isinstance(asked, str) else asked.__name__
    return ContractReport("strategy", name, findings, remarks)


def _in_order(subject: Subject) -> bool:
    try:
        require_declared(subject.cls, subject.cls.__name__)
    except UserError:
        return False
    return True


def _learns(subject: Subject, limit: float) -> str:
    """How well it ranks before and after a made-up task: told, not demanded, as some methods do not learn."""
    from sklearn.metrics import roc_auc_score  # type: ignore[import-untyped]

    auc: list[float] = []

    def learn(subject: Subject) -> None:
        lab, strategy = subject.lab, subject.new(quick=False)
        test, truth = lab.pictures(strategy, TESTED, 50), lab.truth(TESTED, 50).numpy()
        auc.append(roc_auc_score(truth, lab.score(strategy, test)))
        lab.fit(strategy, [subject.everything(strategy, SHOWN, 51)])
        auc.append(roc_auc_score(truth, lab.score(strategy, test)))

    _, reason, _ = made(Check(learn), subject, limit=limit)
    if reason:
        return f"On a made-up task of {SHOWN:,} images with its own epochs and batches it {reason}."
    return f"Macro AUC of a made-up task: {auc[0]:.2f} before and {auc[1]:.2f} after {SHOWN:,} images."

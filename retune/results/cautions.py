"""What must stand beside a run's numbers, wherever they are shown; a line for each thing."""

from __future__ import annotations

from typing import Final

from retune.results.result import Result

FEW: Final = 30
"""Clusters below which a bootstrap over them covers less than it says (Cameron, Gelbach & Miller, 2008)."""


def breaches(result: Result) -> list[str]:
    """That the stream breaks the contract of streams, so that its numbers do not mean what they say."""
    cut = result.scenario
    return [f"Scenario {cut.name} breaks the contract of streams: {reason}." for reason in cut.breaches]


def contaminated(result: Result) -> list[str]:
    """That the backbone has seen the data in pre-training, or may have."""
    backbone = result.backbone
    if backbone.contaminated == "no":
        return []
    seen = ", ".join(backbone.pretraining_data)
    return [f"Contaminated: {backbone.contaminated}. {backbone.name} was pre-trained on {seen}."]


def pictures(result: Result) -> list[str]:
    """What the backbone knows of such pictures, whether it looked at them, and whether some come twice."""
    data, backbone = result.dataset, result.backbone
    lines = []
    if backbone.synthetic and (not data.synthetic or data.partly_synthetic):
        lines.append(
            f"{backbone.name} was trained on synthetic pictures only: on real radiographs its numbers mean nothing."
        )
    if backbone.looked_up:
        lines.append("Features are looked up by image id; no picture was looked at.")
    if data.repeated_images:
        lines.append(f"{data.repeated_images:,} test images are, byte for byte, training images too.")
    return lines


def hidden(result: Result) -> list[str]:
    """That a label which an experience does not observe was shown as absent, or an observed one not as it is."""
    cut, lines = result.scenario, []
    if cut.hidden != "masked":
        lines.append(
            f"Hidden labels read as absent: what an experience of {cut.name} does not observe is shown as 0 "
            "(hidden=absent)."
        )
    if cut.altered:
        done = {"withheld": "withheld of some images", "flipped": "flipped of some images"}[cut.altered]
        lines.append(f"Training labels are {done} by {cut.name}; test labels are true, and what joint sees.")
    return lines


def batches(result: Result) -> list[str]:
    """That a step takes whole experiences, where the setting ``batch_size`` asks for more images than they have."""
    strategy, shown = result.strategy, [e.n_train for e in result.scenario.experiences]
    size = strategy.settings.get("batch_size")
    if strategy.sees_everything or not isinstance(size, int):
        return []
    small = [n for n in shown if n < size]
    which = f"{len(small)} of {len(shown)} experiences ({max(small, default=0):,} images at most)"
    what = f"A batch of {strategy.called} ({size:,} images) is larger than {which}"
    return [f"{what}: a pass over such a one is one step."] if small else []


def few(result: Result) -> list[str]:
    """That the test images are of so few patients that a bootstrap over them says too little."""
    n = result.dataset.n_test_patients
    what = f"The test images are of {n} patients: intervals over fewer than {FEW} are too narrow"
    return [f"{what}, and a difference has to be large to show."] if n < FEW else []


def left_out(result: Result) -> list[str]:
    """How many images were left out, for each reason."""
    return [
        f"{count:,} {'image' if count == 1 else 'images'} left out: {reason}."
        for reason, count in result.dataset.dropped.items()
        if count
    ]


def unlearnable(result: Result) -> list[str]:
    """Which labels cannot have been learnt."""
    names = ", ".join(result.dataset.unlearnable_labels)
    why = "Not learnt, for no positive or no negative training image is shown"
    return [f"{why} (left out of average, forgetting and transfer): {names}."] if names else []


def undefined(result: Result) -> list[str]:
    """Which labels have no AUC."""
    names = ", ".join(result.dataset.undefined_labels)
    return [f"Left out of every mean, for the test images hold one class only: {names}."] if names else []


def unmeasured(result: Result) -> list[str]:
    """That a continued run is not judged on what it was judged on before."""
    lost = result.continued.lost if result.continued else 0
    why = f"{lost:,} of the earlier test images have no features in the store any more"
    return [f"What the new data cost elsewhere is not measured: {why}."] if lost else []


_GRADED: Final = (
    (unmeasured, breaches, contaminated, few),
    (hidden, pictures, batches),
    (left_out, undefined, unlearnable),
)


def cautions(*results: Result) -> list[str]:
    """All of these of one run or of several, the gravest first and none twice."""
    lines = [
        (grade, line)
        for result in results
        for grade, told in enumerate(_GRADED)
        for of in told
        for line in of(result)
    ]
    return [line for _, line in sorted(dict.fromkeys(lines), key=lambda one: one[0])]

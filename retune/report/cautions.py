"""What must stand above the numbers of several runs."""

from __future__ import annotations

from collections.abc import Iterable

from retune.result import Result


def cautions(results: Iterable[Result]) -> list[str]:
    """One line for each reason to read numbers with care, the gravest first, none twice.

    That data are synthetic is not among them: it stands beside the data set's name.
    """
    lines = [line for result in results for line in _of_one(result)]
    return [text for _, text in sorted(dict.fromkeys(lines), key=lambda line: line[0])]


def _of_one(result: Result) -> list[tuple[int, str]]:
    data, backbone = result.dataset, result.backbone
    lines = []
    if backbone.contaminated != "no":
        seen = ", ".join(backbone.pretraining_data)
        lines.append(
            (0, f"Contaminated: {backbone.contaminated}. {backbone.name} was pre-trained on {seen}.")
        )
    if backbone.synthetic and not data.synthetic:
        lines.append(
            (
                1,
                f"{backbone.name} was trained on synthetic pictures only: on real radiographs its numbers mean nothing.",
            )
        )
    if backbone.looked_up:
        lines.append((1, "Features are looked up by image id; no picture was looked at."))
    if data.repeated_images:
        lines.append((1, f"{data.repeated_images:,} test images are, byte for byte, training images too."))
    for reason, count in data.dropped.items():
        if count:
            lines.append((2, f"{count:,} {'image' if count == 1 else 'images'} left out: {reason}"))
    if data.unreadable_images:
        lines.append((2, f"{len(data.unreadable_images):,} images could not be read and were left out."))
    if data.undefined_labels:
        names = ", ".join(data.undefined_labels)
        lines.append((2, f"Left out of every mean, for the test images hold one class only: {names}"))
    return lines + [(3, note) for note in data.notes]

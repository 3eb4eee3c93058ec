"""A stream as an Avalanche benchmark over features."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from retune.avalanche_bridge.quiet import quietly
from retune.errors import UserError

if TYPE_CHECKING:
    from retune.backbones.base import Backbone
    from retune.streams.stream import Stream

Features = npt.NDArray[np.float32]


def to_avalanche(stream: Stream, features: str | Backbone | Features, *, task_labels: bool = False) -> Any:
    """A real Avalanche benchmark with a train and a test stream of T experiences each.

    Targets are float32 rows (C,), 1, 0 or NaN: a label that an experience does not show is NaN, so the
    criterion is :func:`retune.methods.losses.masked_bce`. Training experience t holds the images of the stream's
    experience t. Test experience t holds *all* test images with the labels of training experience t, the
    others NaN: so ``strategy.eval(benchmark.test_stream)`` judges every label group, and metrics of single
    experiences are those of label groups. In a data-incremental stream all test experiences are alike.

    Each experience has ``task_label`` and, as Avalanche's, ``classes_in_this_experience``, the columns shown.

    Args:
        stream: The stream.
        features: A backbone or its name, whose features are looked up or made; or an array (N, d) with a
            row for each image of ``stream.dataset``.
        task_labels: Whether experience t is task t. Otherwise every image is of task 0, and nothing tells a
            method where a test image belongs.

    Raises:
        UserError: If an array does not fit the data set, or images are missing or cannot be decoded.
    """
    with quietly():
        from avalanche.benchmarks import benchmark_from_datasets, with_task_labels

    found = _features(stream, features)
    truth = stream.targets
    train, test = [], []
    # Shared by all test experiences.
    tested = torch.from_numpy(found[stream.test])
    for t, experience in enumerate(stream.experiences):
        task, shown = t if task_labels else 0, list(experience.observed)
        masked = np.full_like(truth, np.nan)
        masked[:, shown] = truth[:, shown]
        seen = torch.from_numpy(found[experience.rows]), torch.from_numpy(experience.targets.copy())
        train.append(as_dataset(*seen, task=task))
        test.append(as_dataset(tested, torch.from_numpy(masked), task=task))
    with quietly():
        benchmark = with_task_labels(benchmark_from_datasets(train=train, test=test))
    for part in (benchmark.train_stream, benchmark.test_stream):
        for experience, made in zip(stream.experiences, part, strict=True):
            made.classes_in_this_experience = list(experience.observed)
    return benchmark


def as_dataset(features: torch.Tensor, targets: torch.Tensor, *, task: int = 0) -> Any:
    """Features (n, d) and targets (n, C) as an AvalancheDataset of rows (x, y, task)."""
    from avalanche.benchmarks.utils import AvalancheDataset, ConstantSequence, TaskLabels

    labels = TaskLabels(ConstantSequence(task, len(features)))
    return AvalancheDataset([torch.utils.data.TensorDataset(features, targets)], data_attributes=[labels])


def as_experience(dataset: Any) -> Any:
    """One experience of a data set."""
    from avalanche.benchmarks import benchmark_from_datasets

    return benchmark_from_datasets(train=[dataset]).train_stream[0]


def _features(stream: Stream, features: str | Backbone | Features) -> Features:
    """One row for each image of the data set; rows that the stream does not use may hold anything."""
    total = len(stream.dataset)
    if isinstance(features, np.ndarray):
        if features.ndim != 2 or len(features) != total:
            raise UserError(
                f"features of shape {features.shape} do not have a row for each of {total:,} images",
                where=f"data set {stream.dataset.name}",
                fix="give an array (N, d) in the order of the data set",
            )
        return np.ascontiguousarray(features, dtype=np.float32)
    from retune.backbones.load import load_backbone
    from retune.features.encode import encode_images

    rows = stream.rows
    backbone = load_backbone(features) if isinstance(features, str) else features
    encoded = encode_images(backbone, stream.dataset, rows).features
    found = np.zeros((total, encoded.shape[1]), dtype=np.float32)
    found[rows] = encoded
    return found

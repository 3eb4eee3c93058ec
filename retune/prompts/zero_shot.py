"""How well each prompt of a bank tells the images that have its finding from those that have not."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn.functional import normalize

from retune.backbones.base import Backbone
from retune.data.dataset import Dataset, FloatArray
from retune.errors import UnknownName, UserError
from retune.features.encode import encode_images, encode_texts
from retune.metrics.binary import Floats, auroc
from retune.progress import Progress, silent
from retune.prompts.bank import POLARITIES, Polarity, PromptBank
from retune.prompts.embeddings import similarity


@dataclass(frozen=True)
class PromptScore:
    """One prompt.

    Args:
        polarity: Whether it affirms or denies the finding.
        text: The sentence.
        auc: AUC of its cosine, of a negative prompt of minus its cosine; None where it is undefined.
    """

    polarity: Polarity
    text: str
    auc: float | None


@dataclass(frozen=True)
class FindingScore:
    """One finding with its prompts.

    Args:
        finding: Its name.
        auc: AUC of the positive prompts' mean embedding minus the negative ones'; of the one there is where a
            polarity has no prompts.
        present: Validation images that have it.
        absent: Those that have it not; the others are unknown.
        prompts: Positive, then negative prompts, the best first.
    """

    finding: str
    auc: float | None
    present: int
    absent: int
    prompts: tuple[PromptScore, ...]


@dataclass(frozen=True)
class BankScores:
    """A bank on a data set's validation images.

    Args:
        bank: Its name.
        dataset: The data set.
        synthetic: Whether its pictures were computed.
        backbone: What encoded them.
        images: How many validation images there are.
        findings: In the order of the bank.
        unlabelled: Findings of the bank that the data set has no label for.
    """

    bank: str
    dataset: str
    synthetic: bool
    backbone: str
    images: int
    findings: tuple[FindingScore, ...]
    unlabelled: tuple[str, ...]


def score_bank(
    bank: PromptBank,
    dataset: Dataset,
    backbone: Backbone,
    *,
    findings: Sequence[str] | None = None,
    skip_bad_images: bool = False,
    progress: Progress = silent,
) -> BankScores:
    """Zero-shot AUC of every prompt on the validation split; test images are never looked at.

    Args:
        bank: The prompts.
        dataset: Labels and images.
        backbone: What encodes both; it needs a space that images and texts share.
        findings: Only these; by default all that the data set has a label for.
        skip_bad_images: Go on without images that are missing or damaged.
        progress: Told how many images are encoded.

    Raises:
        UserError: If a finding is not in the bank, the backbone has no joint space, or there are no
            validation images.
    """
    for name in findings or ():
        if name not in bank.findings:
            raise UnknownName("finding", name, bank.findings, where=f"prompt bank '{bank.name}'")
    if not {"texts", "joint"} <= backbone.capabilities:
        what = "does not embed texts in the space of its images"
        raise UserError(what, where=f"backbone {backbone.name}", fix="name another --backbone")
    rows = dataset.rows("valid")
    if not len(rows):
        what = "has no validation images"
        raise UserError(what, where=f"data set {dataset.name}", fix="give it a split with some")
    unlabelled = tuple(f for f in bank.findings if f not in dataset.labels)
    shown = tuple(findings) if findings else tuple(f for f in bank.findings if f in dataset.labels)
    if not shown:
        what = f"has none of the labels of data set {dataset.name}"
        raise UserError(what, where=f"prompt bank '{bank.name}'", fix="name another bank or another --data")
    encoded = encode_images(backbone, dataset, rows, skip_bad_images=skip_bad_images, progress=progress)
    images = torch.from_numpy(np.asarray(encoded.features, dtype=np.float32))
    targets = dataset.targets[rows[encoded.good]]
    texts = list(dict.fromkeys(p.text for p in bank.select(shown).prompts))
    vectors = dict(zip(texts, torch.from_numpy(encode_texts(backbone, texts)), strict=True))
    scores = tuple(_finding(bank, f, images, _targets(dataset, targets, f), vectors) for f in shown)
    name = dataset.name
    return BankScores(bank.name, name, dataset.synthetic, backbone.name, len(images), scores, unlabelled)


def _targets(dataset: Dataset, targets: FloatArray, finding: str) -> FloatArray:
    """A finding's column; all unknown where the data set has no such label."""
    if finding not in dataset.labels:
        return np.full(len(targets), np.nan, dtype=np.float32)
    return targets[:, dataset.labels.index(finding)]


def _finding(
    bank: PromptBank,
    finding: str,
    images: torch.Tensor,
    targets: FloatArray,
    vectors: Mapping[str, torch.Tensor],
) -> FindingScore:
    prompts: list[PromptScore] = []
    total = torch.zeros(len(images))
    for polarity in POLARITIES:
        texts = bank.texts(finding, polarity)
        if not texts:
            continue
        sign = 1.0 if polarity == "positive" else -1.0
        prompted = torch.stack([vectors[text] for text in texts])
        cosines = sign * (normalize(images, dim=-1) @ normalize(prompted, dim=-1).T)
        aucs = _aucs(targets, cosines.numpy())
        found = [PromptScore(polarity, text, auc) for text, auc in zip(texts, aucs, strict=True)]
        prompts += sorted(found, key=lambda prompt: -(prompt.auc or 0.0))
        together = similarity(images, prompted, torch.zeros(len(texts), dtype=torch.long), 1, "embeddings")
        total += sign * together[:, 0]
    (auc,) = _aucs(targets, total[:, None].numpy())
    present, absent = int((targets == 1).sum()), int((targets == 0).sum())
    return FindingScore(finding, auc, present, absent, tuple(prompts))


def _aucs(targets: FloatArray, scores: FloatArray) -> list[float | None]:
    """AUC of each column of (n, k) scores against the same (n,) targets."""
    found: Floats = np.asarray(auroc(np.repeat(targets[:, None], scores.shape[1], axis=1), scores))
    return [None if math.isnan(value) else float(value) for value in found]

"""BiomedCoOp: CoOp whose prompts stay near what a language model says of each finding.

Koleilat et al., "BiomedCoOp: Learning to Prompt for Biomedical Vision-Language Models", CVPR 2025, arXiv
2411.15232. With CoOp's logits z (see there) of the learnt prompts' unit vectors g_c, the sentences' unit
vectors s_cj, and z' the logits of the selected sentences' mean, by the frozen towers,

    L    = BCE(z) + l1 SCCM + l2 KDSP
    SCCM = MSE(g_c, unit(mean over j of s_cj))
    KDSP = KL(two-way softmax of z' || two-way softmax of z)
    selected in a batch: the s_cj with |m_cj - median of m_c| <= tau MAD of m_c,
                         m_cj = mean over images of cos(v, s_cj).

The paper has several classes that exclude each other: cross-entropy and one softmax over them; 50 sentences
of GPT-4 for a class, all positive; the jth of every class is selected or dropped together, by the mean over
images of its largest logit. Its code standardises the MAD scores once more, which undoes the median. l1 = l2
= 1 and tau = 1.5 are the code's defaults, and each data set has a configuration of its own. SGD at .0025,
batches of 4.
Here findings are independent: a label has two prompts, that affirm and deny it, and the bank's positive and
negative prompts are its sentences. Each polarity of each label selects its own; the rule is the paper's,
without the second standardisation. The mean in KDSP is over images, labels and both sides, as in the code.
The paper learns once, from few images; here the context goes on learning, and distillation from the frozen
towers is what holds it, towards the labels of the experience only. The paper's context is one for all
classes (preset unified), which the stream wears out as it does CoOp's: on two other draws of phantom, against
zero-shot of .785, class-incremental .757 (labels below 10 % of the training images -.007, others -.044) and
data-incremental .814 (+.016, +.040). With class-specific ones, the default, .819 (+.023, +.042) and .823 (+.019,
+.053); these need no share of zero-shot, which would cost .003 and .006: the sentences hold them already.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import torch
from annotated_types import Ge
from retune.strategies.coop import CoOp
from torch.nn.functional import kl_div, logsigmoid, mse_loss, normalize

from retune.methods.given import Context
from retune.methods.strategy import Figure
from retune.settings import NonNegative, Positive


@dataclass
class BiomedCoOp(CoOp):
    """CoOp held by the bank's sentences; before any training, these are scored.

    The default temperature, learning rate and epochs were chosen on phantom's validation patients.

    Args:
        contexts: unified, one for all labels; class-specific, one for each label and polarity.
        context_length: M, how many words are learnt; none means as many as ``base`` has.
        start: words of ``base``, or random, normal with standard deviation .02.
        base: The sentence that a context starts from.
        temperature: What differences of cosines are divided by; CLIP starts at .07 and ends at .01.
        zero_shot_share: How much of every score stays zero-shot by the bank's prompts, 0 to 1.
        lr: Learning rate.
        epochs: Passes over each experience.
        batch_size: Images a step.
        optimizer: adam or sgd.
        sccm: l1, weight of the distance to the mean sentence.
        kdsp: l2, weight of the distillation from selected sentences.
        tau: How many median absolute deviations a selected sentence may lie from the median.
    """

    name: ClassVar[str] = "biomed-coop"
    paper: ClassVar[str] = "Koleilat et al., CVPR 2025, arXiv 2411.15232"
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "paper": {
            "contexts": "unified", "temperature": 0.01, "lr": 2.5e-2, "epochs": 50, "batch_size": 4,
            "optimizer": "sgd",
        },
        "unified": {"contexts": "unified"},
    }  # fmt: skip

    base: str = "a photo of a"
    lr: Positive = 1e-2
    sccm: NonNegative = 1.0
    kdsp: NonNegative = 1.0
    tau: Annotated[float, Ge(1)] = 1.5

    def setup(self, context: Context) -> None:
        """Put the bank's sentences beside each other; see :meth:`Strategy.setup`."""
        super().setup(context)
        prompts, n = context.prompts, len(context.labels)
        groups = torch.cat([prompts.positive_label, prompts.negative_label + n])
        counts = torch.bincount(groups, minlength=2 * n)
        order = groups.argsort(stable=True)
        place = torch.arange(len(order), device=order.device) - (counts.cumsum(0) - counts)[groups[order]]
        vectors = normalize(torch.cat([prompts.positive, prompts.negative]), dim=1)
        sentences = vectors.new_zeros(2 * n, int(counts.max()), vectors.shape[1])
        sentences[groups[order], place] = vectors[order]
        # (2, C, J, d): polarities with fewer than J sentences end in zeros.
        self.sentences = sentences.unflatten(0, (2, n))

    def loss(
        self, unit: torch.Tensor, texts: torch.Tensor, targets: torch.Tensor, columns: list[int]
    ) -> torch.Tensor:
        """L, over unit vectors (B, d), texts (2, k, d) and targets (B, k) of k labels."""
        sentences = self.sentences[:, columns]
        mean, selected = normalize(sentences.sum(dim=2), dim=2), select(unit, sentences, self.tau)
        return (
            super().loss(unit, texts, targets, columns)
            + self.sccm * mse_loss(texts, mean)
            + self.kdsp * distillation(self.logits(unit, texts), self.logits(unit, selected))
        )

    @classmethod
    def parameter_counts(cls, dim: int, n_labels: int) -> Mapping[str, int]:
        """With words of d dimensions: how many they have depends on the text tower."""
        return {"unified, 4 words": 4 * dim}

    @classmethod
    def published_figures(cls) -> Sequence[Figure]:
        """With the words of BiomedCLIP's text tower, of 768 dimensions."""
        return [
            Figure("4 words, w = 768", 3072, cls.parameter_counts(768, 1)["unified, 4 words"], "the paper")
        ]


def select(unit: torch.Tensor, sentences: torch.Tensor, tau: float) -> torch.Tensor:
    """Unit vectors of the mean of the sentences that are no outliers in a batch, (..., d).

    Args:
        unit: Unit vectors of images, (B, d).
        sentences: Unit vectors, (..., J, d); zeros where there is none.
        tau: How many median absolute deviations from the median a sentence's mean cosine may lie.
    """
    there = sentences.any(dim=-1)
    cosines = torch.where(there, sentences @ unit.mean(dim=0), torch.nan)
    away = (cosines - cosines.nanquantile(0.5, dim=-1, keepdim=True)).abs()
    kept = away <= tau * away.nanquantile(0.5, dim=-1, keepdim=True)
    return normalize((sentences * kept[..., None]).sum(dim=-2), dim=-1)


def distillation(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """KL(teacher || student) of two-way softmaxes with logits (B, k); mean over images, labels and sides."""
    sides = [torch.stack([logsigmoid(z), logsigmoid(-z)]) for z in (student, teacher)]
    return kl_div(*sides, reduction="none", log_target=True).mean()

"""CLEFT: a language model with LoRA learns to tell images apart by captions, then a prompt is learnt for it.

Du, Chang, Dvornek, "CLEFT: Language-Image Contrastive Learning with Efficient Large Language Model and
Prompt Fine-Tuning", MICCAI 2024, arXiv 2407.21011. With image vector v, caption t, its tower's vector g(t)
under LoRA updates W + (alpha / r) B A, and linear projections P and Q to 512 dimensions:

    stage 1   minimises InfoNCE(exp(s) cos(P v_i, Q g(t_j))) over A, B, P, Q, s, in both directions alike;
    stage 2   minimises BCE(z_c) over the context u = [u_1] ... [u_M] alone, all else frozen:
              z_c = exp(s) (cos(P v, Q g(u, "c")) - cos(P v, Q g(u, "no c"))).

The paper claims 39 % fewer trainable parameters than CLIP, and 4 % of a BERT encoder's on the text side.
Its code trains the image tower as well, pools GPT-2 at an end token, flips images, takes a batch's
identical captions for each other's negatives, and classifies one finding of several by softmax.
Here the image tower is frozen unless a setting says otherwise; a tower's own text vector is taken (the
last word's of GPT-2); there are no flips, which would swap left and right; identical captions are no
negatives; findings are independent, so each has a prompt that affirms and one that denies it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from torch import nn

from retune.adaptors import count_parameters
from retune.captions import Pairs, captions_of
from retune.learnt_context import LearntContext, affirmed_and_denied
from retune.lora import LoraTexts, add_lora
from retune.losses import info_nce, masked_bce
from retune.projections import Projections
from retune.prompts.combine import PromptEmbeddings
from retune.settings import Count, NonNegative, Positive, Share
from retune.strategy import Context, Figure, Images, Lazy, Need, State, Strategy, Training
from retune.training import Optimizer, train, train_adamw


@dataclass
class Cleft(Strategy):
    """LoRA in the text tower and two projections, then words of a prompt; both stages in every experience.

    Where no context has been learnt - before any training, without stage 2, and per step for labels not
    yet observed - the bank's prompts are scored through the adapted tower, so that on a joint space it
    starts as zero-shot. Without a joint space the first scores are those of random projections.

    Args:
        stages: both; contrastive, without learnt prompts; prompts, without stage 1 (needs a joint space).
        contexts: shared, one context through the stream for every label; per-step, a new one each
            experience, a label's score being the mean over the contexts that observed it.
        context_length: M, how many words are learnt; none means as many as ``base`` has.
        base: The caption that a context starts from.
        start: Projections: zero-shot keeps the cosines of a joint space, random is the paper's.
        tower: The image tower: frozen on cached features, or trained in stage 1 on pixels.
        pairs: What images are paired with: reports where there are any (auto), reports, or captions.
        width: Dimensions after the projections.
        rank: r of LoRA.
        alpha: LoRA's updates are scaled by alpha / rank.
        dropout: Of LoRA's inputs; towers of open_clip's own cannot drop any.
        lr: Highest learning rate of AdamW in stage 1, decaying linearly to 0.
        weight_decay: Of AdamW.
        warmup: Share of stage 1's steps in which the learning rate rises.
        epochs: Passes over each experience in stage 1.
        batch_size: Images a step.
        prompt_lr: Learning rate of stage 2.
        prompt_epochs: Passes over each experience in stage 2.
        prompt_optimizer: adam or sgd, in stage 2.
    """

    name: ClassVar[str] = "cleft"
    paper: ClassVar[str] = "Du, Chang, Dvornek, MICCAI 2024, arXiv 2407.21011"
    needs: ClassVar[frozenset[Need]] = frozenset({"features", "texts", "text-gradients"})
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        # Its 40,000 and 8,000 steps of 288, as passes over CheXpert's 191,027 frontal radiographs.
        "paper": {
            "tower": "trained", "start": "random", "context_length": 30, "lr": 4e-5, "weight_decay": 0.1,
            "epochs": 60, "batch_size": 288, "prompt_lr": 1e-4, "prompt_epochs": 12, "prompt_optimizer": "sgd",
        },
        "per-step": {"contexts": "per-step"},
    }  # fmt: skip

    stages: Literal["both", "contrastive", "prompts"] = "both"
    contexts: Literal["shared", "per-step"] = "shared"
    context_length: Count | None = None
    base: str = "Chest radiograph with findings of"
    start: Literal["zero-shot", "random"] = "zero-shot"
    tower: Literal["frozen", "trained"] = "frozen"
    pairs: Pairs = "auto"
    width: Count = 512
    rank: Count = 8
    alpha: Positive = 32.0
    dropout: Share = 0.1
    lr: Positive = 3e-4
    weight_decay: NonNegative = 0.01
    warmup: Share = 0.1
    epochs: Count = 2
    batch_size: Count = 64
    prompt_lr: Positive = 1e-4
    prompt_epochs: Count = 5
    prompt_optimizer: Optimizer = "adam"

    def requires(self) -> frozenset[Need]:
        """Pixels for a tower to train, a joint space where nothing is learnt before the prompts."""
        images: set[Need] = {"features"} if self.tower == "frozen" else {"pixels", "trainable-tower"}
        joint: set[Need] = {"joint"} if self.stages == "prompts" else set()
        return frozenset({"texts", "text-gradients"} | images | joint)

    def setup(self, context: Context) -> None:
        """Put LoRA into a copy of the text tower and make the projections; see :meth:`Strategy.setup`."""
        self.context, towers = context, context.towers
        assert towers is not None
        assert context.bank is not None
        generator = torch.Generator().manual_seed(context.seed)
        self.texts = LoraTexts(
            towers.trainable_texts(),
            rank=self.rank,
            alpha=self.alpha,
            dropout=self.dropout,
            generator=generator,
        )
        self.alike = self.start == "zero-shot" and "joint" in towers.backbone.capabilities
        self.heads = Projections(
            context.dim, towers.text_dim, self.width, alike=self.alike, generator=generator
        ).to(context.device)
        self.images = nn.Identity() if self.tower == "frozen" else towers.image_tower()
        self._require_grad(False)
        classes = affirmed_and_denied(context.labels)
        self.prompt = LearntContext(
            self.texts, classes, self.base, length=self.context_length, device=context.device
        )
        self.learnt: list[nn.Parameter] = []
        self.observed: list[list[int]] = []
        self.asked: PromptEmbeddings | None = None

    def fit(self, experience: Training) -> None:
        """Stage 1 on this experience's captions, stage 2 on its observed labels."""
        self.asked, generator = None, experience.generator()
        if self.contexts == "per-step" or not self.observed:
            self.observed.append([])
            if self.stages != "contrastive":
                self.learnt.append(self.prompt.start())
        self.observed[-1] = sorted({*self.observed[-1], *experience.observed})
        if self.stages != "prompts":
            self._contrast(experience, generator)
        if self.stages != "contrastive":
            self._learn_prompt(experience, generator)

    def _contrast(self, experience: Training, generator: torch.Generator) -> None:
        captions = captions_of(experience, self.context, self.pairs)
        inputs = self._inputs(experience.images)

        def loss(batch: torch.Tensor) -> torch.Tensor:
            # Each distinct caption goes through the tower once.
            distinct, place = captions.index[batch].unique(return_inverse=True)
            texts = self._encode([captions.texts[i] for i in distinct.tolist()])
            images = self.heads.project("image", self.images(inputs[batch]))
            return info_nce(images, texts[place], self.heads.inverse_temperature(), caption=place)

        self._require_grad(True)
        with self.texts.dropping(generator):
            train_adamw(
                self._stage_1().values(), loss, len(experience), epochs=self.epochs, batch_size=self.batch_size,
                lr=self.lr, weight_decay=self.weight_decay, warmup=self.warmup, generator=generator,
            )  # fmt: skip
        self._require_grad(False)

    def _learn_prompt(self, experience: Training, generator: torch.Generator) -> None:
        context, images = self.learnt[-1], self._project(experience.images)
        observed = list(experience.observed)
        targets = experience.targets[:, observed]

        def loss(batch: torch.Tensor) -> torch.Tensor:
            return masked_bce(self._logits(images[batch], context, observed), targets[batch])

        train(
            [context], loss, len(experience), epochs=self.prompt_epochs, lr=self.prompt_lr,
            batch_size=self.batch_size, optimizer=self.prompt_optimizer, generator=generator,
        )  # fmt: skip

    @torch.no_grad()
    def score(self, images: Images) -> torch.Tensor:
        """Logits, float32 (N, C)."""
        projected, everything = self._project(images), list(range(len(self.context.labels)))
        if self.learnt and self.contexts == "shared":
            return self._logits(projected, self.learnt[0], everything)
        if self.asked is None:
            self.asked = self._ask()
        scores = self.heads.inverse_temperature() * self.asked.score(projected, "embeddings", "difference")
        total, count = torch.zeros_like(scores), scores.new_zeros(scores.shape[1])
        for context, observed in zip(self.learnt, self.observed, strict=False):
            total[:, observed] += self._logits(projected, context, observed)
            count[observed] += 1
        return torch.where(count > 0, total / count.clamp(min=1), scores)

    def _ask(self) -> PromptEmbeddings:
        """The bank's prompts through the adapted tower."""
        bank, prompts = self.context.bank, self.context.prompts
        assert bank is not None
        positive, negative = (
            self._encode([text for label in prompts.labels for text in of(label)])
            for of in (bank.positive, bank.negative)
        )
        return replace(prompts, positive=positive, negative=negative)

    def _logits(self, projected: torch.Tensor, context: torch.Tensor, columns: list[int]) -> torch.Tensor:
        """Logits z of some labels for unit vectors, (N, len(columns))."""
        labels = torch.tensor(columns, device=projected.device)
        classes = torch.cat([labels, labels + len(self.context.labels)])
        affirm, deny = self.heads.project("text", self.prompt.encode(context, classes)).chunk(2)
        return self.heads.inverse_temperature() * (projected @ (affirm - deny).T)

    def _encode(self, texts: Sequence[str]) -> torch.Tensor:
        """Projected unit vectors of P texts, (P, width)."""
        words, mask = self.texts.embed(texts)
        return self.heads.project("text", self.texts.encode(words.to(self.context.device), mask))

    @torch.no_grad()
    def _project(self, images: Images) -> torch.Tensor:
        inputs, batches = self._inputs(images), torch.arange(len(images)).split(64)
        return torch.cat([self.heads.project("image", self.images(inputs[batch])) for batch in batches])

    def _inputs(self, images: Images) -> torch.Tensor | Lazy:
        return images.features if self.tower == "frozen" else images.pixels

    def _require_grad(self, wanted: bool) -> None:
        for parameter in self._stage_1().values():
            parameter.requires_grad_(wanted)

    def state_dict(self) -> State:
        """LoRA's updates, projections, a trained image tower's weights, contexts and what each observed."""
        return {
            "observed": self.observed,
            **{f"context.{k}": context.data for k, context in enumerate(self.learnt)},
            **{name: parameter.data for name, parameter in self._stage_1().items()},
        }

    def load_state_dict(self, state: State) -> None:
        """Take up everything learnt."""
        self.asked, self.observed = None, [list(columns) for columns in state["observed"]]
        device = self.context.device
        found = (state[f"context.{k}"] for k in range(len(self.observed)) if f"context.{k}" in state)
        self.learnt = [nn.Parameter(context.to(device)) for context in found]
        for name, parameter in self._stage_1().items():
            parameter.data.copy_(state[name])

    def _stage_1(self) -> dict[str, nn.Parameter]:
        """Everything of stage 1 by name."""
        modules = {"heads": self.heads, "tower": self.images}
        of = {f"{prefix}.{k}": p for prefix, m in modules.items() for k, p in m.named_parameters()}
        return of | {f"lora.{k}": p for k, p in self.texts.weights.items()}

    def trainable_parameters(self) -> int:
        """Contexts, and whatever stage 1 trains."""
        if not self.observed:
            return 0
        stage_1 = [] if self.stages == "prompts" else self._stage_1().values()
        return sum(p.numel() for p in (*stage_1, *self.learnt))

    def diagnostics(self) -> Mapping[str, Any]:
        """What was trained, how the projections started, and how warm the softmax has become."""
        return {
            "image tower": self.tower,
            "projections started": "as one isometry" if self.alike else "at random",
            "LoRA updates": len(self.texts.weights) // 2,
            "words learnt": len(self.prompt.start()),
            "temperature": 1 / self.heads.inverse_temperature().item(),
        }

    @classmethod
    def parameter_counts(cls, dim: int, n_labels: int) -> Mapping[str, int]:
        """Projections to 512 dimensions; LoRA and contexts depend on the text tower."""
        return {"projections and temperature": count_parameters(Projections(dim, dim, 512, generator=None))}

    @classmethod
    def published_figures(cls) -> Sequence[Figure]:
        """Of GPT-2 as in BioMedLM, DINOv2 ViT-B/14 with registers, BERT and CLIP, none of them allocated."""
        import transformers as tf

        with torch.device("meta"):
            gpt2 = tf.GPT2Model(tf.GPT2Config(n_embd=2560, n_layer=32, n_head=20, n_positions=1024))
            bert = count_parameters(tf.BertModel(tf.BertConfig(vocab_size=28_996)))
            vit = tf.Dinov2WithRegistersModel(tf.Dinov2WithRegistersConfig(image_size=518, patch_size=14))
            clip = count_parameters(tf.CLIPModel(tf.CLIPConfig(vision_config={"patch_size": 16})))
            heads = Projections(768, 2560, 512, generator=None)
            image_tower, context = count_parameters(vit), torch.empty(30, gpt2.config.n_embd).numel()
            lora = sum(p.numel() for p in add_lora(gpt2, rank=8, alpha=32, dropout=0.1).values())
        text, image = count_parameters(heads.text), count_parameters(heads.image)
        everything = image_tower + image + lora + text
        code, paper = "the authors' code", "the abstract"
        return [
            Figure("LoRA in GPT-2, r = 8", 2_621_440, lora, code),
            Figure("text projection, 2560 to 512", 1_311_232, text, code),
            Figure("image projection, 768 to 512", 393_728, image, code),
            Figure("30 learnt words", 76_800, context, code),
            Figure(
                "LoRA and text projection, of a BERT encoder", 3.6, 100 * (lora + text) / bert, paper, "%"
            ),
            Figure("all, below CLIP ViT-B/16", 39.2, 100 * (1 - everything / clip), paper, "%"),
        ]

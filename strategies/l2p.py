"""L2P: a pool of prompts, of which every image picks its own by the frozen tower's view of it.

Wang, Zhang, Lee, Zhang, Sun, Ren, Su, Perot, Dy & Pfister, "Learning to Prompt for Continual Learning", CVPR
2022, arXiv 2112.08654. M prompts P_m, each of L tokens, have keys k_m. With the frozen transformer's own vector
q(x) as the query, image x gets the prompts K_x of the N keys nearest to it by the cosine. They join the
patches in the first block; h(x) is the mean of what becomes of their N L tokens after the last norm, and

    min over P, k, w, b of    BCE(w h(x) + b, y) + lambda sum_{m in K_x} (1 - cos(q(x), k_m)).

The paper: softmax over the current task's classes, ViT-B/16 of ImageNet-21k; it claims to beat methods with
a small memory of past images while keeping none. Settings here are its code's for CIFAR-100 (M = 10, L = 10,
N = 4, Adam at a constant 0.03, 5 passes, batches of 128, lambda = 1), keys and prompts start uniform in
[0, 0.01), heads at 0.
We: binary cross-entropy over the known labels of an experience, whose heads alone are trained; h scaled to
length sqrt(w); gradients are not clipped; the query is the cached feature, projected where the tower projects.
The paper's code gives a whole batch the prompts most often picked in it, in tests as well: scores would
depend on batch mates, so each image gets its own, as the paper's equations say. A label not yet observed
is scored by its text prompts on the frozen feature.
It needs a vision transformer. Towers without tokens between which attention mixes, such as phantom-clip's
FasterNet, are refused: on cached features alone there is no place for a prompt, and nothing faithful to put there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import torch
from torch import nn
from torch.nn.functional import linear, normalize

from retune.errors import UserError
from retune.methods.adaptors import count_parameters, load_prefixed, normalised, prefixed
from retune.methods.given import Context, Images, Need, Training
from retune.methods.linear import LabelHeads, Start
from retune.methods.losses import masked_bce
from retune.methods.strategy import State, Strategy
from retune.methods.towers import tower_maps
from retune.methods.training import train
from retune.settings import Count, NonNegative, Positive

CHUNK = 64
SPREAD = 0.01


KINDS: Final = frozenset({
    "VisionTransformer", "VisionTransformerDistilled",  # open_clip, timm
    "ViTModel", "Dinov2Model", "Dinov2WithRegistersModel",
    "CLIPVisionModel", "CLIPVisionTransformer", "SiglipVisionModel", "SiglipVisionTransformer",
})  # fmt: skip
"""Classes that add positions once, before the first block; after that, a token's place does not matter."""
BLOCKS: Final = ("transformer.resblocks", "blocks", "encoder.layer", "encoder.layers", "layers")
"""Where they keep their blocks: open_clip, timm, and transformers in several versions."""
NORMS: Final = ("ln_post", "fc_norm", "norm", "post_layernorm", "layernorm")
"""What they call the norm after the last block; timm has two, one of which is the identity."""


@dataclass
class L2p(Strategy):
    """A pool of prompts for a frozen vision transformer, and a linear classifier per label on what becomes of them.

    Args:
        start: How labels not yet observed are scored: zero-shot by their text prompts, or zeros.
        pool: M, how many prompts there are.
        length: L, tokens of a prompt.
        picked: N, how many prompts an image gets; all of them where the pool is smaller.
        pull: lambda, weight of the distance between queries and the keys they picked.
        lr: Learning rate of Adam.
        epochs: Passes over each experience.
        batch_size: Images a step.
    """

    name: ClassVar[str] = "l2p"
    paper: ClassVar[str] = "Wang et al., CVPR 2022, arXiv 2112.08654"
    needs: ClassVar[frozenset[Need]] = frozenset({"features", "pixels", "prompted-tower", "texts", "joint"})

    start: Start = "zero-shot"
    pool: Count = 10
    length: Count = 10
    picked: Count = 4
    pull: NonNegative = 1.0
    lr: Positive = 0.03
    epochs: Count = 5
    batch_size: Count = 128

    def requires(self) -> frozenset[Need]:
        """Features to ask with, pictures and a tower to prompt; texts for labels not yet observed."""
        return self.needs if self.start == "zero-shot" else self.needs - {"texts", "joint"}

    def setup(self, context: Context) -> None:
        """Take a copy of the image tower and make the pool; see :meth:`Strategy.setup`."""
        assert context.towers is not None
        self.context, self.tower = context, PromptedTower(context.towers.image_tower())
        generator = torch.Generator().manual_seed(context.seed)
        sizes = {"prompt": (self.pool, self.length, self.tower.width), "key": (self.pool, context.dim)}
        self.prompts = nn.ParameterDict(
            {name: SPREAD * torch.rand(size, generator=generator) for name, size in sizes.items()}
        ).to(context.device)
        self.heads = LabelHeads(self.tower.width, len(context.labels)).to(context.device)

    def fit(self, experience: Training) -> None:
        """Train the pool and the observed labels' heads."""
        columns, images = list(experience.observed), experience.images
        targets, pixels, features = experience.targets[:, columns], images.pixels, images.features

        def loss(batch: torch.Tensor) -> torch.Tensor:
            near, picked = self._pick(features[batch])
            hidden = self._hidden(pixels[batch], picked)
            distance = (1 - near).sum(dim=1).mean()
            return masked_bce(linear(normalised(hidden), weight, bias), targets[batch]) + self.pull * distance

        with self.heads.trained(columns) as (weight, bias):
            train(
                [weight, bias, *self.prompts.parameters()], loss, len(experience), epochs=self.epochs,
                batch_size=self.batch_size, lr=self.lr, generator=experience.generator(),
            )  # fmt: skip

    def _pick(self, queries: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Cosines to the nearest keys, (B, N), and which these are, (B, N)."""
        cosines = normalize(queries, dim=1) @ normalize(self.prompts["key"], dim=1).T
        near, picked = cosines.topk(min(self.picked, self.pool), dim=1)
        return near, picked

    def _hidden(self, pixels: torch.Tensor, picked: torch.Tensor) -> torch.Tensor:
        """h, (B, w), of pictures with the prompts they picked."""
        tokens: torch.Tensor = self.tower(pixels, self.prompts["prompt"][picked].flatten(1, 2))[1]
        return tokens.mean(dim=1)

    @torch.no_grad()
    def score(self, images: Images) -> torch.Tensor:
        """Logits of observed labels, differences of cosines or 0 for the others, float32 (N, C)."""
        features, pixels, prompts = images.features, images.pixels, self.context.prompts
        unseen = features.new_zeros(len(images), len(self.context.labels))
        if self.start == "zero-shot":
            unseen = prompts.score(features, "embeddings", "difference")
        if not self.heads.seen.any():
            return unseen
        chunks = torch.arange(len(images), device=features.device).split(CHUNK)
        hidden = [self._hidden(pixels[chunk], self._pick(features[chunk])[1]) for chunk in chunks]
        return self.heads.scores(torch.cat(hidden), unseen)

    @torch.no_grad()
    def dense(self, images: Images) -> torch.Tensor | None:
        """The tower's own patches beside the prompts that each image picks, once these were trained."""
        if not self.heads.seen.any():
            return None
        prompts = self.prompts["prompt"][self._pick(images.features)[1]].flatten(1, 2)
        return self.tower.maps(images.pixels[torch.arange(len(images))], prompts)

    def state_dict(self) -> State:
        """Prompts, keys and heads; nothing of the tower."""
        return {**prefixed("pool", self.prompts), **prefixed("heads", self.heads)}

    def load_state_dict(self, state: State) -> None:
        """Take up what was learnt."""
        load_prefixed("pool", self.prompts, state)
        load_prefixed("heads", self.heads, state)

    def trainable_parameters(self) -> int:
        """Of prompts, keys and heads, once they were trained."""
        modules = (self.prompts, self.heads)
        return sum(map(count_parameters, modules)) if bool(self.heads.seen.any()) else 0

    def diagnostics(self) -> Mapping[str, Any]:
        """Tokens that an image gets, and how alike the keys have become: the mean cosine between two."""
        keys = normalize(self.prompts["key"].detach(), dim=1)
        apart = 1 - torch.eye(len(keys), device=keys.device)
        alike = (keys @ keys.T * apart).sum() / apart.sum().clamp(min=1)
        return {
            "tokens added": min(self.picked, self.pool) * self.length,
            "cosine between keys": alike.item(),
        }

    @classmethod
    def parameter_counts(cls, dim: int, n_labels: int) -> Mapping[str, int]:
        """In a tower as wide as its vectors."""
        pool = cls.pool * (cls.length * dim + dim)
        return {"prompts and keys": pool, "with heads": pool + n_labels * (dim + 1)}


class PromptedTower(nn.Module):
    """A frozen vision transformer that takes further tokens beside its own.

    They enter the first block with the class token and the patches, to which positions were added already, as
    in shallow visual prompt tuning (Jia et al., ECCV 2022, arXiv 2203.12119). After the last block they are
    taken out again, so that the tower pools what it always pools.

    Args:
        tower: uint8 (B, S, S) to (B, d), as :meth:`retune.methods.towers.Towers.image_tower` gives it. It is frozen
            and put into evaluation mode.

    Raises:
        UserError: If it is no vision transformer that is known here.
    """

    def __init__(self, tower: nn.Module) -> None:
        super().__init__()
        self.tower = tower.requires_grad_(False).eval()
        known = (part for part in tower.modules() if type(part).__name__ in KINDS)
        found = ((_first(part, BLOCKS, "__len__"), _first(part, NORMS, "weight")) for part in known)
        blocks, norm = next((both for both in found if None not in both), (None, None))
        if blocks is None or norm is None:
            raise UserError(
                f"the image tower ({_name(tower)}) has no sequence of tokens that prompts could be added to",
                fix="choose a backbone with a vision transformer: open_clip's or timm's VisionTransformer, or "
                "transformers' ViT, DINOv2, CLIP or SigLIP",
            )
        self._ends = (blocks[0], blocks[-1], norm)
        self.width: int = len(norm.weight)

    def forward(self, pixels: torch.Tensor, prompts: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Embed pictures together with prompts.

        Args:
            pixels: uint8 (B, S, S).
            prompts: (B, P, w); gradients go to them.

        Returns:
            The pictures' vectors, (B, d), and what became of the prompts, after the last norm, (B, P, w).
        """
        with self._prompted(prompts) as made:
            vectors = self.tower(pixels)
        return vectors, self._ends[2](made[0]).float()

    def maps(self, pixels: torch.Tensor, prompts: torch.Tensor) -> torch.Tensor:
        """The pictures' own patches beside the prompts, in their places, float32 (B, w, g, g)."""
        with self._prompted(prompts):
            return tower_maps(self.tower, pixels)

    @contextmanager
    def _prompted(self, prompts: torch.Tensor) -> Iterator[list[torch.Tensor]]:
        """Let the tower take prompts along; gives what became of them after the last block."""
        first, last, _ = self._ends
        count, made = prompts.shape[1], list[torch.Tensor]()

        def add(_: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...]:
            return torch.cat([given[0], prompts.to(given[0])], dim=1), *given[1:]

        def take(_: nn.Module, __: Any, out: Any) -> Any:
            tokens = out[0] if isinstance(out, tuple) else out
            made.append(tokens[:, -count:])
            rest = tokens[:, :-count]
            return (rest, *out[1:]) if isinstance(out, tuple) else rest

        hooks = (first.register_forward_pre_hook(add), last.register_forward_hook(take))
        try:
            yield made
        finally:
            for hook in hooks:
                hook.remove()


def _first(module: nn.Module, names: tuple[str, ...], having: str) -> Any:
    """The first part of a module, under one of some names, that has an attribute; None where there is none."""
    for name in names:
        part: Any = module
        for step in name.split("."):
            part = getattr(part, step, None)
        if hasattr(part, having):
            return part
    return None


def _name(tower: nn.Module) -> str:
    """What the tower inside of one is called."""
    inner: Any = tower
    for step in ("visual", "trunk", "tower"):
        inner = getattr(inner, step, inner)
    return type(inner).__name__

"""L2P: its equations worked out again on a vision transformer, and who can have it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits as bce
from torch.nn.functional import cosine_similarity, normalize

import retune
from retune.check.tower import WIDTH
from retune.errors import UserError

if TYPE_CHECKING:
    from conftest import Lab


def test_starts_as_zero_shot_and_trains_prompts_keys_and_heads(lab: Lab) -> None:
    strategy: Any = lab.make("l2p", quick=False)
    test = lab.pictures(strategy, 300, 50)
    assert torch.equal(
        lab.score(strategy, test), lab.prompts[True].score(test.features, "embeddings", "difference")
    )
    assert (strategy.trainable_parameters(), lab.make("l2p", start="zeros").requires()) == (
        0, {"features", "pixels", "prompted-tower"},
    )  # fmt: skip
    lab.fit(strategy, [lab.experience(strategy, 130, range(6), 51)])
    # Ten prompts of ten tokens, ten keys, six heads.
    assert strategy.trainable_parameters() == 10 * 10 * WIDTH + 10 * 128 + 6 * (WIDTH + 1)


def hidden(strategy: Any, pixels: torch.Tensor, prompts: torch.Tensor) -> torch.Tensor:
    """h of the paper: prompts in front, the tower's parts called one by one."""
    visual = strategy.tower.tower.visual
    grey = pixels[:, None].float().div(255).expand(-1, 3, -1, -1)
    patches = visual._embeds((grey - 0.5) / 0.3)
    tokens = visual.ln_post(visual.transformer(torch.cat([prompts, patches], dim=1)))
    h = tokens[:, : prompts.shape[1]].mean(dim=1)
    return h * WIDTH**0.5 / h.norm(dim=1, keepdim=True)


def test_the_first_step_is_the_gradient_of_the_papers_loss(lab: Lab) -> None:
    """Adam's first step is the sign of the gradient."""
    lr, pull = 1e-4, 0.3
    settings = {"lr": lr, "pull": pull, "pool": 5, "length": 3, "picked": 2, "batch_size": 40}
    strategy, again = (lab.make("l2p", **settings) for _ in range(2))
    for each in (strategy, again):
        # Heads at zero would send no gradient to the prompts, and keys that are all alike are hard to tell apart.
        torch.nn.init.normal_(each.heads.weight, generator=torch.Generator().manual_seed(1))
        torch.nn.init.normal_(each.prompts["key"], generator=torch.Generator().manual_seed(2))
    part = lab.experience(strategy, 40, (1, 3), 1)
    part.targets[:10, 1] = torch.nan
    lab.fit(strategy, [part])

    prompts, keys = again.prompts["prompt"], again.prompts["key"]
    pixels, queries = part.images.pixels[torch.arange(40)], part.images.features
    cosines = cosine_similarity(queries[:, None], keys, dim=2)
    order = cosines.argsort(dim=1, descending=True)[:, :2]
    given = torch.stack([torch.cat([prompts[a], prompts[b]]) for a, b in order.tolist()])
    logits = hidden(again, pixels, given) @ again.heads.weight[[1, 3]].T + again.heads.bias[[1, 3]]
    known = torch.ones(40, 2, dtype=torch.bool)
    known[:10, 0] = False
    loss = bce(logits[known], part.targets[:, [1, 3]][known])
    (loss + pull * (1 - cosines.gather(1, order)).sum() / 40).backward()
    pairs = [(keys, strategy.prompts["key"]), (prompts, strategy.prompts["prompt"])]
    for before, after in [*pairs, (again.heads.weight, strategy.heads.weight)]:
        clear = before.grad.abs() > 1e-2 * before.grad.abs().max()
        step = (after - before).detach()[clear]
        torch.testing.assert_close(step, -lr * before.grad.sign()[clear], rtol=0.05, atol=0)
    others = [0, 2, 4, 5]
    assert torch.equal(strategy.heads.weight[others], again.heads.weight[others])


def test_an_observed_label_is_scored_with_the_prompts_an_image_picks_itself(lab: Lab) -> None:
    strategy: Any = lab.make("l2p", pool=4, length=2, picked=3)
    lab.fit(strategy, lab.stream(strategy)[:1])
    torch.nn.init.normal_(strategy.prompts["key"], generator=torch.Generator().manual_seed(2))
    images = lab.tests(strategy)
    features, pixels = images.features, images.pixels[torch.arange(lab.tested)]
    near = (normalize(features) @ normalize(strategy.prompts["key"]).T).argsort(dim=1, descending=True)[:, :3]
    assert len({tuple(row.sort().values.tolist()) for row in near}) > 1
    with torch.no_grad():
        given = strategy.prompts["prompt"][near].reshape(lab.tested, 6, WIDTH)
        logits = hidden(strategy, pixels, given) @ strategy.heads.weight[:2].T + strategy.heads.bias[:2]
    scores = lab.score(strategy)
    torch.testing.assert_close(scores[:, :2], logits, rtol=1e-4, atol=1e-4)
    assert torch.equal(scores[:, 2:], lab.prompts[True].score(features, "embeddings", "difference")[:, 2:])


def test_a_tower_without_tokens_is_refused_with_what_would_do(tmp_path: Path) -> None:
    tiny = {"data.images": 60, "data.size": 64}
    with pytest.raises(UserError, match=r"takes further tokens.* these do: biomedclip"):
        retune.run(out=tmp_path, strategy="l2p", steps=2, device="cpu", settings=tiny)

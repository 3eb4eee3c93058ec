"""Adaptor against its published counts, its own promises, and a problem made up for it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from retune.strategies.adaptor import CrossModalAdaptor
from sklearn.metrics import roc_auc_score
from torch.nn.functional import normalize

import retune
from retune import Strategy, registry
from retune.errors import BadSetting, UserError
from retune.methods.training import seeded, train_adamw

if TYPE_CHECKING:
    from conftest import Lab

Adaptor = registry("strategies").load("adaptor")


@pytest.mark.parametrize("figure", Adaptor.published_figures(), ids=lambda f: f.name)
def test_the_figures_are_the_published_ones(figure: retune.methods.strategy.Figure) -> None:
    assert figure.ours == figure.published


def test_the_figures_are_counted_as_the_paper_has_them() -> None:
    told = {f.name: f.published for f in Adaptor.published_figures()}
    assert sorted(told.values()) == [90.9, 91.2, 92.9, 5_513_984, 11_912_705, 12_011_009, 12_207_617]
    # By hand, with biases: four projections of attention, two of the feed-forward layer, two norms.
    layer = 4 * (768 * 768 + 768) + (768 * 2048 + 2048) + (2048 * 768 + 768) + 2 * 2 * 768
    assert told["one layer"] == layer
    assert told["images of d = 512"] == 512 * 768 + 768 * 768 + 2 * layer + 1
    assert Adaptor.parameter_counts(768, 14)["adaptor, width 768"] == told["images of d = 768"]


def small(image_dim: int = 5, text_dim: int = 6, **options: Any) -> CrossModalAdaptor:
    with seeded(1):
        return CrossModalAdaptor(image_dim, text_dim, 64, **options).eval()


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class TestCrossModalAdaptor:
    def test_is_post_norm_with_relu_as_written_out_by_hand(self) -> None:
        adaptor, vectors = small(layers=1), random(3, 5)
        layer: Any = adaptor.layers[0]
        with torch.no_grad():
            x = vectors @ adaptor.image.weight.T
            x = x / x.norm(dim=1, keepdim=True)
            # A sequence of one attends to itself: only values and the output projection matter.
            value = x @ layer.self_attn.in_proj_weight[128:].T + layer.self_attn.in_proj_bias[128:]
            x = layer.norm1(x + layer.self_attn.out_proj(value))
            x = layer.norm2(x + layer.linear2(layer.linear1(x).clamp(min=0)))
            x = x / x.norm(dim=1, keepdim=True)
            torch.testing.assert_close(adaptor.images(vectors), x, rtol=1e-4, atol=1e-5)
        assert layer.self_attn.num_heads == 1
        assert layer.linear1.out_features == 170

    def test_trains_as_pytorch_s_own_layers_on_sequences_of_one(self) -> None:
        adaptor, vectors = small(dropout=0.5).train(), random(6, 5)

        def trained(forward: Callable[[], torch.Tensor]) -> list[torch.Tensor]:
            adaptor.zero_grad()
            with seeded(4):
                (forward() @ torch.arange(64.0)).sum().backward()
            return [p.grad for p in adaptor.layers.parameters() if p.grad is not None]

        def through_pytorch() -> torch.Tensor:
            sequences = normalize(adaptor.image(vectors), dim=-1)[:, None]
            for layer in adaptor.layers:
                sequences = layer(sequences)
            return normalize(sequences[:, 0], dim=-1)

        torch.testing.assert_close(trained(lambda: adaptor.images(vectors)), trained(through_pytorch))

    def test_both_modalities_share_the_layers(self) -> None:
        adaptor = small(image_dim=5, text_dim=5)
        adaptor.text.load_state_dict(adaptor.image.state_dict())
        vectors = random(3, 5)
        assert torch.equal(adaptor.images(vectors), adaptor.texts(vectors))

    @pytest.mark.parametrize("shape", [(9, 5), (9, 4, 5)])
    def test_no_sample_depends_on_another(self, shape: tuple[int, ...]) -> None:
        adaptor, vectors = small(), random(*shape)
        for training in (False, True):  # gradients on and off take different paths inside PyTorch
            with torch.set_grad_enabled(training):
                together = adaptor.images(vectors)
                alone = torch.cat([adaptor.images(v[None]) for v in vectors])
                others = torch.cat([vectors[:1], random(8, *shape[1:], seed=3)])
                torch.testing.assert_close(alone, together, rtol=1e-5, atol=1e-6)
                torch.testing.assert_close(adaptor.images(others)[0], together[0], rtol=1e-5, atol=1e-6)

    @pytest.mark.parametrize("grad", [False, True])
    def test_padding_has_no_influence(self, grad: bool) -> None:
        adaptor, words = small(), random(2, 7, 6)
        mask = torch.arange(7) < torch.tensor([[3], [7]])
        with torch.set_grad_enabled(grad):
            together = adaptor.texts(torch.where(mask[..., None], words, 0.0), mask)
            alone = adaptor.texts(words[:1, :3], torch.ones(1, 3, dtype=torch.bool))
        torch.testing.assert_close(together[:1], alone, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(together.norm(dim=1), torch.ones(2))

    def test_every_token_counts_and_their_order_does_not(self) -> None:
        adaptor, tokens = small(), random(1, 4, 5)
        found = adaptor.images(tokens)
        torch.testing.assert_close(adaptor.images(tokens.flip(1)), found, rtol=1e-4, atol=1e-5)
        for k in range(4):
            changed = tokens.clone()
            changed[:, k] += 1
            assert (adaptor.images(changed) - found).abs().max() > 1e-3

    def test_the_temperature_starts_at_the_paper_s_and_stops_at_clip_s(self) -> None:
        adaptor = small()
        assert adaptor.scale().item() == pytest.approx(1 / 0.07, rel=1e-6)
        adaptor.log_scale.data.fill_(9.0)
        assert adaptor.scale().item() == 100

    def test_weights_and_dropout_hang_on_the_seed_alone(self) -> None:
        before = torch.get_rng_state()

        def trained() -> torch.Tensor:
            with seeded(4):
                adaptor = CrossModalAdaptor(5, 6, 64).train()
                return torch.cat([adaptor.images(random(3, 5)) for _ in range(2)])

        found = trained()
        torch.rand(3)
        assert torch.equal(trained(), found)
        assert not torch.equal(found[:3], found[3:])
        torch.set_rng_state(before)


def test_the_rate_rises_then_falls_to_nothing() -> None:
    weight = torch.nn.Parameter(torch.zeros(1))
    seen: list[float] = []

    def loss(batch: torch.Tensor) -> torch.Tensor:
        seen.append(weight.item())
        return -weight.sum()

    # Adam moves by the rate itself where the gradient is constant: 10 steps, 2 of them rising.
    train_adamw(
        [weight],
        loss,
        10,
        epochs=2,
        batch_size=2,
        lr=0.3,
        weight_decay=0.0,
        warmup=0.2,
        generator=torch.Generator().manual_seed(0),
    )
    rates = np.diff([*seen, weight.item()])
    expected = [0.1, 0.2, *(0.3 * k / 8 for k in range(8, 0, -1))]
    np.testing.assert_allclose(rates, expected, rtol=1e-3)


def after_one_experience(lab: Lab, **settings: Any) -> tuple[Strategy, np.ndarray, np.ndarray]:
    """Aucs of each label before and after learning the first three."""
    strategy = lab.make("adaptor", quick=False, epochs=4, lr=5e-4, **settings)
    test, truth = lab.pictures(strategy, 300, 50), lab.truth(300, 50).numpy()
    before = lab.score(strategy, test)
    lab.fit(strategy, [lab.experience(strategy, 600, (0, 1, 2), 51)])
    after = lab.score(strategy, test)
    aucs = [np.array([roc_auc_score(truth[:, c], s[:, c]) for c in range(6)]) for s in (before, after)]
    return strategy, aucs[0], aucs[1]


@pytest.mark.parametrize("scores", ["prompts", "head"])
def test_learns_the_observed_labels(lab: Lab, scores: str) -> None:
    _, before, after = after_one_experience(lab, scores=scores)
    assert after[:3].mean() > max(0.75, before[:3].mean() + 0.1)


def test_a_head_scores_what_was_observed_and_prompts_the_rest(lab: Lab) -> None:
    test = lab.pictures(lab.make("adaptor"), 20, 9)
    scores = {}
    for kind in ("prompts", "head"):
        strategy = lab.make("adaptor", scores=kind)
        lab.fit(strategy, [lab.experience(strategy, 40, (0, 2), 1)])
        scores[kind] = lab.score(strategy, test)
        heads = 6 * 257 if kind == "head" else 0
        assert (
            strategy.trainable_parameters() == Adaptor.parameter_counts(128, 6)["adaptor, width 256"] + heads
        )
    same = [torch.equal(scores["prompts"][:, c], scores["head"][:, c]) for c in range(6)]
    assert same == [False, True, False, True, True, True]


def test_nothing_is_trained_or_kept_before_the_first_experience(lab: Lab) -> None:
    strategy = lab.make("adaptor")
    assert strategy.trainable_parameters() == 0
    assert strategy.state_dict() == {}


@pytest.mark.parametrize(("init", "alike"), [("identity", True), ("random", False)])
def test_from_the_identity_it_sets_out_near_zero_shot(lab: Lab, init: str, alike: bool) -> None:
    strategy = lab.make("adaptor", init=init, lr=1e-9)
    images = lab.pictures(strategy, 60, 4)
    before = lab.score(strategy, images)
    lab.fit(strategy, [lab.experience(strategy, 8, (0, 1), 1)])
    after = lab.score(strategy, images)
    together = [np.corrcoef(b, a)[0, 1] for b, a in zip(before.T, after.T, strict=True)]
    assert bool(min(together) > 0.97) is alike


def test_without_a_joint_space_it_begins_by_knowing_nothing(lab: Lab) -> None:
    strategy = lab.make("adaptor")
    context = lab.context(strategy)
    assert context.towers is not None

    class Apart:
        capabilities = frozenset({"features", "texts"})

        def __getattr__(self, name: str) -> Any:
            return getattr(lab.backbone, name)

    apart: Any = Apart()
    strategy.setup(replace(context, towers=replace(context.towers, backbone=apart)))
    assert not lab.score(strategy).any()


def test_images_are_adapted_without_a_look_at_texts_or_other_images(lab: Lab) -> None:
    strategy = lab.make("adaptor")
    lab.fit(strategy, lab.stream(strategy)[:1])
    images = lab.pictures(strategy, 12, 3)
    with torch.no_grad():
        vectors = strategy.given.adapted(strategy.adaptor, images)  # type: ignore[attr-defined]
    features = images.features.requires_grad_()
    strategy.adaptor.zero_grad()  # type: ignore[attr-defined]
    adapted = strategy.adaptor.images(features)  # type: ignore[attr-defined]
    torch.testing.assert_close(adapted.detach(), vectors, rtol=1e-5, atol=1e-6)
    adapted[4].sum().backward()
    assert features.grad is not None
    assert features.grad.abs().sum(1).nonzero().flatten().tolist() == [4]
    assert all(p.grad is None for p in strategy.adaptor.text.parameters())  # type: ignore[attr-defined]


def test_a_width_that_cannot_be_cut_into_heads() -> None:
    with pytest.raises(BadSetting, match="100 is no multiple of 64"):
        Adaptor(width=100)


SMALL: dict[str, Any] = {"data.images": 300, "data.size": 64, "epochs": 2}


@pytest.mark.parametrize(
    ("scenario", "settings"),
    [
        ("class-incremental", {}),
        ("label-incremental", {"scores": "head"}),
        ("data-incremental", {"pairs": "reports"}),
        ("data-incremental", {"inputs": "tokens", "epochs": 1, "width": 64, "layers": 1}),
    ],
)
def test_runs_through_every_scenario(tmp_path: Path, scenario: str, settings: dict[str, Any]) -> None:
    result = retune.run(
        scenario=scenario,
        strategy="adaptor",
        settings={**SMALL, **settings},
        replicates=5,
        steps=2,
        out=tmp_path,
    )
    aucs = result.array("auc_matrix")
    assert aucs.shape == (3, 14)
    assert np.isfinite(aucs).any(axis=1).all()
    assert not np.array_equal(aucs[0], aucs[2], equal_nan=True)
    assert result.cost.trainable_parameters > 0
    assert result.cost.stored_images == 0


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Two small towers that never saw each other nor anything else."""
    import transformers

    folder = tmp_path_factory.mktemp("towers")
    size = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    words = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        "no",
        "effusion",
        "edema",
        ".",
        "the",
        "heart",
        "is",
    ]
    torch.manual_seed(1)
    transformers.Dinov2Model(transformers.Dinov2Config(**size, image_size=56)).save_pretrained(
        folder / "image"
    )
    processor = {
        "image_processor_type": "BitImageProcessor",
        "size": {"shortest_edge": 56},
        "crop_size": {"height": 56, "width": 56},
    }
    (folder / "image" / "preprocessor_config.json").write_text(json.dumps(processor))
    config = transformers.BertConfig(
        **size, intermediate_size=64, vocab_size=len(words), max_position_embeddings=80
    )
    transformers.BertModel(config).save_pretrained(folder / "text")
    (folder / "text" / "vocab.txt").write_text("\n".join(words))
    transformers.BertTokenizer(str(folder / "text" / "vocab.txt")).save_pretrained(folder / "text")
    return f"pair:local-dir:{folder / 'image'}+local-dir:{folder / 'text'}"


@pytest.mark.parametrize("inputs", ["pooled", "tokens"])
def test_learns_over_a_pair_of_towers(pair: str, tmp_path: Path, inputs: str) -> None:
    result = retune.run(
        strategy="adaptor",
        backbone=pair,
        settings={**SMALL, "inputs": inputs, "width": 64, "layers": 1},
        replicates=5,
        steps=2,
        out=tmp_path,
    )
    aucs = result.array("auc_matrix")
    defined = aucs[0][np.isfinite(aucs[0])]
    assert (defined == 0.5).all()
    assert (aucs[2][np.isfinite(aucs[2])] != 0.5).all()
    assert math.isfinite(result.metrics["final_auc"].value)


def test_reports_cannot_be_insisted_on_where_labels_are_hidden(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="choose pairs=auto"):
        retune.run(strategy="adaptor", settings={**SMALL, "pairs": "reports"}, replicates=5, out=tmp_path)

"""M-FLAG: its published counts, what orthogonality does, batch statistics, and runs over every scenario."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
import transformers
from retune.strategies.m_flag import geometry
from safetensors.torch import load_file
from torch import nn

import retune
from retune import Images, Strategy, Training, registry
from retune.errors import UserError
from retune.methods.adaptors import normalised
from retune.methods.captions import captions_of

if TYPE_CHECKING:
    from conftest import Lab

MFlag = registry("strategies").load("m-flag")
TINY = {"data.images": 120, "data.size": 64, "epochs": 2, "head_epochs": 5, "hidden": 32, "joint": 16}
SCENARIOS = ("class-incremental", "label-incremental", "data-incremental")


def run(out: Path, settings: dict[str, Any], **options: Any) -> retune.Result:
    return retune.run(
        out=out,
        strategy="m-flag",
        steps=2,
        replicates=5,
        device="cpu",
        settings={**TINY, **settings},
        **options,
    )


def test_published_figures() -> None:
    figures = {figure.published: figure.ours for figure in MFlag.published_figures()}
    assert figures.pop(77.8) == pytest.approx(100 * (1 - (23_508_032 + 6_298_624) / 134_178_368))
    assert figures == {n: n for n in (23_508_032, 6_298_624, 3_677_184)}


@pytest.mark.parametrize("scores", ["head", "prompts"])
def test_parameters_are_counted_after_training(lab: Lab, scores: str) -> None:
    strategy = lab.make("m-flag", scores=scores)
    assert strategy.trainable_parameters() == 0
    assert strategy.state_dict() == {}
    lab.fit(strategy, lab.stream(strategy)[:1])
    # A linear layer in the tower's place; two projectors 128 -> 256 -> 128; a head.
    tower, one = 128 * 129, (128 * 256 + 256) + 2 * 256 + (256 * 128 + 128)
    head = 6 * 129 if scores == "head" else 0
    assert strategy.trainable_parameters() == tower + 2 * one + head
    assert MFlag.parameter_counts(128, 6)[f"features, {scores}"] == tower + 2 * one + head


def test_the_projector_is_the_papers(lab: Lab) -> None:
    strategy: Any = lab.make("m-flag", hidden=20, joint=10)
    kinds = [nn.Linear, nn.BatchNorm1d, nn.ReLU, nn.Linear, nn.BatchNorm1d]
    for side in ("image", "text"):
        layers = strategy.parts[side]
        assert [type(layer) for layer in layers] == kinds
        assert layers[0].out_features == 20
        assert layers[3].out_features == 10
        assert (layers[1].affine, layers[4].affine) == (True, False)


def test_the_first_step_is_the_gradient_of_both_losses(lab: Lab) -> None:
    """Adam's first step is the sign of the gradient, which is worked out again here from the formulas."""
    weight, lr = 0.7, 1e-4
    settings = {"orthogonality": weight, "lr": lr, "weight_decay": 0.0, "batch_size": 40, "scores": "prompts"}
    strategy: Any = lab.make("m-flag", **settings)
    again: Any = lab.make("m-flag", **settings)
    part = lab.stream(strategy)[-1]
    lab.fit(strategy, [part])

    captions = captions_of(part, again.context)
    texts = normalised(again.context.towers.texts(captions.texts))[captions.index]
    again.parts.train()
    z = again.parts["tower"](normalised(part.images.features))
    v, t = (nn.functional.normalize(again.parts[s](x), dim=1) for s, x in (("image", z), ("text", texts)))
    aligned = 2 * (v - t).square().sum(1).mean()
    products = (z[:, :, None] * z[:, None, :]).mean(0)
    off = 1 - torch.eye(z.shape[1])
    unequal = 0.5 * ((products.diagonal() - 1).square().sum() + 0.0051 * (products * off).square().sum())
    (aligned + weight * unequal).backward()
    compared = 0
    for name, before in again.parts.named_parameters():
        after, gradient = strategy.parts.get_parameter(name), before.grad
        assert gradient is not None
        clear = gradient.abs() > 1e-3 * gradient.abs().max()
        if name.startswith(("image.0.bias", "image.3.bias", "text.0.bias", "text.3.bias")):
            continue  # a batch's mean is subtracted right after: no gradient but rounding
        step = (after - before).detach()[clear]
        torch.testing.assert_close(step, -lr * gradient.sign()[clear], rtol=0.05, atol=0)
        compared += int(clear.sum())
    assert compared > 50_000


def correlated(lab: Lab, strategy: Strategy) -> Training:
    """200 images whose 128 features are mostly mixtures of eight, so that they repeat each other."""
    part = lab.experience(strategy, 200, range(6), 1)
    drawn = torch.randn(128, 128, generator=torch.Generator().manual_seed(3))
    mixed = part.images.features @ (drawn * torch.tensor([1.0] * 8 + [0.05] * 120)).T
    return replace(part, images=Images(200, {"features": lambda: mixed.clone()}))


def test_orthogonality_raises_the_rank_and_lowers_the_correlation(lab: Lab) -> None:
    told = []
    for weight in (0.0, 1.0):
        settings = {"orthogonality": weight, "epochs": 15, "lr": 5e-3, "scores": "prompts"}
        strategy = lab.make("m-flag", quick=False, **settings)
        part = correlated(lab, strategy)
        lab.fit(strategy, [part])
        told.append(strategy.diagnostics())
    without, given = told
    start = geometry(normalised(part.images.features))
    assert given["effective_rank"] > start["effective_rank"] > 1.1 * without["effective_rank"]
    assert given["off_diagonal_correlation"] < start["off_diagonal_correlation"]
    assert start["off_diagonal_correlation"] < 0.9 * without["off_diagonal_correlation"]


@pytest.mark.parametrize("tower", ["features", "pixels"])
def test_which_tower_was_trained_is_said_and_true(lab: Lab, tower: str) -> None:
    strategy: Any = lab.make("m-flag", tower=tower)
    start = {key: value.clone() for key, value in strategy.parts["tower"].state_dict().items()}
    lab.fit(strategy, lab.stream(strategy)[:1])
    said = {
        "features": "a linear layer on cached features, in the tower's place",
        "pixels": "the image tower",
    }
    assert strategy.diagnostics()["trained_tower"] == said[tower]
    after = strategy.parts["tower"].state_dict()
    changed = {key for key, value in after.items() if not torch.equal(value, start[key])}
    trained = {name for name, _ in strategy.parts["tower"].named_parameters()}
    # Its own batch statistics stay; whatever is trained moves.
    assert changed == trained


def test_before_training_it_is_zero_shot(lab: Lab) -> None:
    strategies = [lab.make("m-flag", tower=tower) for tower in ("features", "pixels")]
    for strategy in strategies:
        images = lab.pictures(strategy, 9)
        vectors = (
            images.features
            if "features" in strategy.requires()
            else lab.backbone.encode_images(images.pixels[torch.arange(9)])
        )
        expected = lab.prompts[True].score(vectors, "embeddings", "difference")
        torch.testing.assert_close(lab.score(strategy, images), expected, rtol=1e-4, atol=1e-5)


def test_unseen_labels_are_scored_by_prompts_and_seen_ones_by_the_head(lab: Lab) -> None:
    head: Any = lab.make("m-flag")
    prompts: Any = lab.make("m-flag", scores="prompts")
    for strategy in (head, prompts):
        lab.fit(strategy, lab.stream(strategy)[:1])
    images = lab.pictures(head, 30, 99)
    by_head, by_prompts = lab.score(head, images), lab.score(prompts, images)
    assert torch.equal(by_head[:, 2:], by_prompts[:, 2:])
    latent = normalised(head._latent(images))
    expected = latent @ head.parts["head"].weight.T + head.parts["head"].bias
    torch.testing.assert_close(by_head[:, :2], expected[:, :2])


@pytest.mark.parametrize("scores", ["head", "prompts"])
def test_a_score_by_prompts_is_a_difference_of_cosines_in_evaluation_mode(lab: Lab, scores: str) -> None:
    strategy: Any = lab.make("m-flag", scores=scores)
    lab.fit(strategy, [lab.experience(strategy, 40, (0, 1), 1)])
    assert not any(module.training for module in strategy.parts.modules())
    statistics = {
        k: v.clone() for k, v in strategy.parts.state_dict().items() if "running" in k or "num" in k
    }
    assert len(statistics) == 12
    images = lab.pictures(strategy, 30, 99)
    single = [Images(1, {"features": lambda row=row: row[None].clone()}) for row in images.features]
    together = lab.score(strategy, images)
    alone = torch.cat([lab.score(strategy, image) for image in single])
    torch.testing.assert_close(alone, together, rtol=1e-5, atol=2e-6)
    after = strategy.parts.state_dict()
    assert all(torch.equal(after[key], value) for key, value in statistics.items())
    if scores == "prompts":
        v = strategy.parts["image"](strategy._latent(images))
        bank, label = lab.prompts[True], lab.labels.index("Edema")
        sides = []
        for texts, index in ((bank.positive, bank.positive_label), (bank.negative, bank.negative_label)):
            t = nn.functional.normalize(strategy.parts["text"](normalised(texts[index == label])), dim=1)
            sides.append(nn.functional.cosine_similarity(v, t.mean(0)[None]))
        torch.testing.assert_close(together[:, label], (sides[0] - sides[1]).detach(), rtol=1e-4, atol=1e-5)


def test_a_batch_of_one_uses_and_keeps_the_running_statistics(lab: Lab) -> None:
    strategy: Any = lab.make("m-flag")
    lab.fit(strategy, [lab.experience(strategy, 30, (0, 1), 1)])

    def statistics() -> dict[str, torch.Tensor]:
        return {k: v.clone() for k, v in strategy.parts.state_dict().items() if "running" in k or "num" in k}

    before, weight = statistics(), strategy.parts["tower"].weight.detach().clone()
    lab.fit(strategy, [lab.experience(strategy, 1, (0, 1), 2)])
    assert all(torch.equal(value, before[key]) for key, value in statistics().items())
    assert not torch.equal(strategy.parts["tower"].weight, weight)
    assert strategy.diagnostics()["off_diagonal_correlation"] is None
    assert strategy.diagnostics()["effective_rank"] == pytest.approx(1)
    lab.fit(strategy, [lab.experience(strategy, 2, (0, 1), 3)])
    assert not all(torch.equal(value, before[key]) for key, value in statistics().items())


def test_resuming_takes_up_batch_statistics_and_diagnostics(lab: Lab) -> None:
    whole, resumed = lab.make("m-flag"), lab.make("m-flag")
    *begun, last = lab.stream(whole)
    lab.fit(whole, begun)
    state = {k: v.clone() if isinstance(v, torch.Tensor) else v for k, v in whole.state_dict().items()}
    assert state["parts.image.1.num_batches_tracked"] > 0
    assert state["parts.text.4.running_var"].shape == (128,)
    resumed.load_state_dict(state)
    assert resumed.diagnostics() == whole.diagnostics()
    assert torch.equal(lab.scores_after(resumed, [last]), lab.scores_after(whole, [last]))
    ours, theirs = resumed.state_dict(), whole.state_dict()
    assert all(torch.equal(ours[k], v) for k, v in theirs.items() if isinstance(v, torch.Tensor))
    assert ours["measured"] == theirs["measured"]


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_runs_every_scenario(tmp_path: Path, scenario: str) -> None:
    result = run(tmp_path / "on", {}, scenario=scenario)
    off = run(tmp_path / "off", {"orthogonality": 0}, scenario=scenario)
    assert len(result.auc_matrix) == 3
    told, without = result.strategy.diagnostics, off.strategy.diagnostics
    assert told["measured_images"] == result.scenario.experiences[-1].n_train
    assert told["effective_rank"] > without["effective_rank"]
    assert told["off_diagonal_correlation"] != without["off_diagonal_correlation"]
    zero_shot = load_file(tmp_path / "on" / "scores.safetensors")["scores"][0]
    assert zero_shot.abs().max() <= 2


def test_runs_on_pixels(tmp_path: Path) -> None:
    result = run(tmp_path, {"tower": "pixels", "data.images": 60, "epochs": 1, "lr": 1e-4})
    assert result.strategy.diagnostics["trained_tower"] == "the image tower"
    assert result.cost.trainable_parameters > 1_000_000
    assert all(math.isfinite(m.value) for m in (result.metrics["final_auc"], result.metrics["average_auc"]))


def save_towers(folder: Path) -> str:
    """A vision tower of 16 dimensions and a text tower of 32, in the formats of transformers."""
    vision, text = folder / "vision", folder / "text"
    torch.manual_seed(1)
    config = transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic"
    )
    transformers.ResNetModel(config).save_pretrained(vision)
    processor = {
        "image_processor_type": "BitImageProcessor",
        "do_resize": True,
        "size": {"shortest_edge": 64},
        "resample": 3,
        "do_center_crop": True,
        "crop_size": {"height": 56, "width": 56},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [0.5] * 3,
        "image_std": [0.25] * 3,
    }
    (vision / "preprocessor_config.json").write_text(json.dumps(processor))
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "no", "edema", "effusion", ".", "heart", "lung"]
    small = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    transformers.BertModel(
        transformers.BertConfig(**small, vocab_size=len(words), max_position_embeddings=64)
    ).save_pretrained(text)
    (text / "vocab.txt").write_text("\n".join(words))
    transformers.BertTokenizer(str(text / "vocab.txt")).save_pretrained(text)
    return f"pair:local-dir:{vision}+local-dir:{text}"


@pytest.mark.parametrize("tower", ["features", "pixels"])
def test_runs_on_a_pair_of_towers_without_a_joint_space(tmp_path: Path, tower: str) -> None:
    backbone = save_towers(tmp_path)
    result = run(tmp_path / "run", {"tower": tower, "data.images": 80, "epochs": 1}, backbone=backbone)
    scores = load_file(tmp_path / "run" / "scores.safetensors")["scores"]
    assert not scores[0].any()
    assert scores[1:].isfinite().all()
    assert scores[2].std() > 0
    assert result.strategy.diagnostics["latent_dimensions"] == 16
    assert {value for value in result.auc_matrix[0] if value is not None} == {0.5}


def test_reports_are_insisted_on_in_vain_where_labels_are_hidden(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="pairs=reports"):
        run(tmp_path, {"pairs": "reports"})
    result = run(tmp_path / "all", {"pairs": "reports"}, scenario="data-incremental")
    captions = run(tmp_path / "captions", {"pairs": "captions"}, scenario="data-incremental")
    assert result.auc_matrix != captions.auc_matrix

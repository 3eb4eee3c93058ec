"""CLEFT against its published counts; what each stage may touch; a pair without a joint space."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
import transformers
from sklearn.metrics import roc_auc_score
from torch.nn.functional import normalize

import retune
from retune import registry
from retune.errors import UserError

if TYPE_CHECKING:
    from conftest import Lab

Cleft = registry("strategies").load("cleft")
Tensors = dict[str, torch.Tensor]


def learnt(strategy: Any) -> Tensors:
    return {k: v.clone() for k, v in strategy.state_dict().items() if isinstance(v, torch.Tensor)}


def changed(before: Tensors, after: Tensors) -> set[str]:
    return {k.partition(".")[0] for k, v in after.items() if k in before and not torch.equal(before[k], v)}


def test_published_figures_are_those_of_what_is_built() -> None:
    figures = Cleft.published_figures()
    assert [(f.published, f.ours) for f in figures[:4]] == [
        (2_621_440, 2_621_440),
        (1_311_232, 1_311_232),
        (393_728, 393_728),
        (76_800, 76_800),
    ]
    for figure in figures[4:]:
        assert figure.ours == pytest.approx(figure.published, rel=0.01 if figure.unit == "%" else 1e-3), (
            figure
        )


def test_its_parameters_are_lora_projections_and_a_context(lab: Lab) -> None:
    strategy = lab.make("cleft", context_length=5)
    assert strategy.trainable_parameters() == 0
    lab.fit(strategy, [lab.experience(strategy, 20, (0, 1), 1)])
    # Two layers of r (128 + 384), two Linear(128, 512), a temperature, five words of 128.
    assert strategy.trainable_parameters() == 2 * 8 * 512 + 2 * 129 * 512 + 1 + 5 * 128
    assert sum(v.numel() for v in learnt(strategy).values()) == strategy.trainable_parameters()


def test_on_a_joint_space_it_starts_as_zero_shot(lab: Lab) -> None:
    strategy = lab.make("cleft")
    images = lab.pictures(strategy, 30)
    expected = lab.prompts[True].score(images.features, "embeddings", "difference")
    # The temperature starts at .07.
    torch.testing.assert_close(lab.score(strategy, images), expected / 0.07, rtol=1e-4, atol=1e-4)
    strategy = lab.make("cleft", start="random")
    assert (lab.score(strategy, images) - expected / 0.07).abs().max() > 0.1


@pytest.mark.parametrize(
    ("stages", "parts"),
    [("both", {"heads", "lora", "context"}), ("contrastive", {"heads", "lora"}), ("prompts", {"context"})],
)
def test_each_stage_learns_its_own(lab: Lab, stages: str, parts: set[str]) -> None:
    strategy = lab.make("cleft", stages=stages)
    before = learnt(strategy)
    if stages != "contrastive":
        before["context.0.0"] = strategy.prompt.start().data
    lab.fit(strategy, [lab.experience(strategy, 40, (0, 1), 1)])
    assert changed(before, learnt(strategy)) == parts


def test_stage_2_gives_gradients_to_the_context_alone(lab: Lab) -> None:
    strategy = lab.make("cleft")
    lab.fit(strategy, [lab.experience(strategy, 40, (0, 1), 1)])
    towers = strategy.towers
    everything = [*towers.path.module.parameters(), *towers.heads.parameters()]
    for parameter in everything:
        parameter.grad = None
    kept = [parameter.clone() for parameter in everything]
    strategy.stages = "prompts"
    lab.fit(strategy, [lab.experience(strategy, 40, (2, 3), 2)])
    assert all(p.grad is None and torch.equal(p, old) for p, old in zip(everything, kept, strict=True))
    assert strategy.learnt.modules[0][0].grad is not None


def test_a_logit_is_the_scaled_difference_of_cosines(lab: Lab) -> None:
    share = 0.25
    strategy = lab.make("cleft", stages="prompts", prompt_lr=1e-9, zero_shot_share=share)
    lab.fit(strategy, [lab.experience(strategy, 8, (0,), 1)])
    images = lab.pictures(strategy, 10)
    # A context that has hardly moved is the base caption; the projections keep cosines.
    said = [f"{strategy.base} {no}{label.lower()}" for no in ("", "no ") for label in lab.labels]
    affirm, deny = normalize(lab.backbone.encode_texts(said), dim=1).chunk(2)
    zero_shot = lab.prompts[True].score(images.features, "embeddings", "difference") / 0.07
    learnt = normalize(images.features, dim=1) @ (affirm - deny).T / 0.07
    expected = (1 - share) * learnt + share * zero_shot
    torch.testing.assert_close(lab.score(strategy, images), expected, rtol=1e-3, atol=1e-3)


def test_per_step_contexts_leave_earlier_ones_alone(lab: Lab) -> None:
    for contexts, kept in (("per-step", True), ("shared", False)):
        strategy = lab.make("cleft", contexts=contexts, stages="prompts")
        first, second, _ = lab.stream(strategy)
        before = lab.scores_after(strategy, [first])
        after = lab.scores_after(strategy, [second])
        assert torch.equal(before[:, 0], after[:, 0]) is kept
        assert not torch.equal(before[:, 2], after[:, 2])
        # Not yet observed: the bank's prompts still.
        zero_shot = lab.score(lab.make("cleft", stages="prompts"))
        assert torch.equal(before[:, 4], zero_shot[:, 4]) is kept


def test_a_trained_image_tower_is_part_of_what_is_learnt(lab: Lab) -> None:
    strategy = lab.make("cleft", tower="trained", lr=1e-3)
    assert strategy.requires() >= {"pixels", "trainable-tower"}
    before = learnt(strategy)
    lab.fit(strategy, [lab.experience(strategy, 20, (0, 1), 1)])
    assert changed(before, learnt(strategy)) == {"heads", "lora", "tower"}
    assert strategy.diagnostics()["image tower"] == "trained"


@pytest.mark.parametrize("stages", ["contrastive", "prompts"])
def test_either_stage_learns_to_tell_images_apart(lab: Lab, stages: str) -> None:
    fast = {"lr": 1e-3, "prompt_lr": 3e-2, "prompt_epochs": 20}
    strategy = lab.make("cleft", quick=False, stages=stages, **fast)
    seen = lab.experience(strategy, 600, (0, 1), 51)
    test, truth = lab.pictures(strategy, 400, 50), lab.truth(400, 50)[:, :2].numpy()
    before = roc_auc_score(truth, lab.score(strategy, test)[:, :2])
    lab.fit(strategy, [seen])
    assert roc_auc_score(truth, lab.score(strategy, test)[:, :2]) > before + 0.03


def test_a_context_too_long_for_the_tower_is_refused_before_anything_is_learnt(lab: Lab) -> None:
    with pytest.raises(UserError, match=r"the text tower takes 64; learn fewer"):
        lab.make("cleft", context_length=63)


SMALL: dict[str, Any] = {
    "data.images": 240,
    "data.size": 32,
    "epochs": 1,
    "prompt_epochs": 1,
    "batch_size": 32,
}


@pytest.mark.parametrize("scenario", ["class-incremental", "label-incremental", "data-incremental"])
def test_it_runs_in_every_scenario(tmp_path: Path, scenario: str) -> None:
    result = retune.run(
        strategy="cleft", scenario=scenario, steps=2, out=tmp_path, settings=SMALL, replicates=10
    )
    document = json.loads((tmp_path / "result.json").read_text())
    assert len(document["auc_matrix"]) == 3
    assert 0.3 < result.metrics["final_auc"].value < 1
    # Word embeddings, LoRA and projections of phantom-clip: the context is the base's five words.
    assert result.cost.trainable_parameters == 2 * 8 * 512 + 2 * 129 * 512 + 1 + 5 * 128
    assert result.cost.stored_images == 0


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny DINOv2 beside a tiny GPT-2 with its tokenizer, as transformers saves them."""
    from tokenizers import pre_tokenizers

    root = tmp_path_factory.mktemp("pair")
    torch.manual_seed(1)
    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 28}
    transformers.Dinov2Model(transformers.Dinov2Config(**small)).save_pretrained(root / "image")
    processor = {
        "image_processor_type": "BitImageProcessor", "do_resize": True, "size": {"shortest_edge": 28},
        "resample": 3, "do_center_crop": True, "crop_size": {"height": 28, "width": 28}, "do_rescale": True,
        "rescale_factor": 1 / 255, "do_normalize": True, "image_mean": [0.5] * 3, "image_std": [0.5] * 3,
    }  # fmt: skip
    (root / "image" / "preprocessor_config.json").write_text(json.dumps(processor))
    text = root / "text"
    pieces = [*sorted(pre_tokenizers.ByteLevel.alphabet()), "he", "Ġh", "<|endoftext|>"]
    config = transformers.GPT2Config(n_embd=24, n_layer=2, n_head=2, n_positions=128, vocab_size=len(pieces))
    transformers.GPT2LMHeadModel(config).save_pretrained(text)
    (text / "vocab.json").write_text(json.dumps({piece: k for k, piece in enumerate(pieces)}))
    (text / "merges.txt").write_text("#version: 0.2\nh e\nĠ h\n")
    (text / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "GPT2Tokenizer"}))
    return f"pair:local-dir:{root / 'image'}+local-dir:{text}"


def test_it_runs_on_a_pair_of_towers(pair: str, tmp_path: Path) -> None:
    def run(name: str, **settings: Any) -> retune.Result:
        return retune.run(
            strategy="cleft", scenario="class-incremental", backbone=pair, device="cpu", out=tmp_path / name,
            steps=2, settings={**SMALL, **settings}, replicates=10, prompts="chexzero",
        )  # fmt: skip

    result = run("one", context_length=4)
    # GPT-2's c_attn, 24 to 72, in two layers; projections of 16 and of 24; four words.
    assert result.cost.trainable_parameters == 2 * 8 * 96 + (17 + 25) * 512 + 1 + 4 * 24
    assert run("again", context_length=4).auc_matrix == result.auc_matrix
    with pytest.raises(UserError, match="joint"):
        run("prompts", stages="prompts")


def test_resuming_ignores_what_a_context_would_start_from(lab: Lab) -> None:
    strategy, resumed = lab.make("cleft"), lab.make("cleft")
    first, second, _ = lab.stream(strategy)
    lab.fit(strategy, [first])
    resumed.load_state_dict(
        {k: v.clone() if isinstance(v, torch.Tensor) else v for k, v in strategy.state_dict().items()}
    )
    assert torch.equal(lab.scores_after(strategy, [second]), lab.scores_after(resumed, [second]))

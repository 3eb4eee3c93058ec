"""A language model on this machine: seeded, in its own template, and given up when it talks nonsense."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from retune.cli.main import main
from retune.errors import RetuneError, UserError
from retune.prompts import load
from retune.prompts.writer.generate import Request, open_llm
from retune.prompts.writer.llm import LocalModel

Answer = tuple[int, dict[str, str], bytes]
Script = Callable[[int, dict[str, Any]], Answer]

BANK = load("language-model")
DAY = "2026-11-21"


def request(**settings: Any) -> Request:
    return Request(**{"findings": ("Edema",), "per_polarity": 3, **settings})


@pytest.fixture(scope="module")
def gpt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random causal model over bytes, as transformers saves one."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("models") / "tiny-gpt"
    letters = {letter: i for i, letter in enumerate(["<end>", *sorted(pre_tokenizers.ByteLevel.alphabet())])}
    core = Tokenizer(models.BPE(letters, []))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<end>").save_pretrained(folder)
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=len(letters),
        n_positions=3000,
        n_embd=8,
        n_layer=1,
        n_head=1,
        bos_token_id=0,
        eos_token_id=0,
    )
    GPT2LMHeadModel(config).save_pretrained(folder)
    return folder


SAID = [{"role": "user", "content": "Write 3 sentences."}]


def test_a_local_model_draws_by_its_seed_alone(gpt: Path) -> None:
    import torch

    model = open_llm(f"local-dir:{gpt}", device="cpu")
    state = torch.random.get_rng_state()
    first = model.reply(SAID, seed=1, max_tokens=20)
    torch.rand(3)
    assert model.reply(SAID, seed=1, max_tokens=20) == first
    assert LocalModel(f"local-dir:{gpt}", "cpu").reply(SAID, seed=1, max_tokens=20) == first
    assert model.reply(SAID, seed=2, max_tokens=20) != first
    assert "Write" not in first
    torch.random.set_rng_state(state)
    model.reply(SAID, seed=3, max_tokens=5)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert re.fullmatch(r"tiny-gpt \(sha256 [0-9a-f]{16}\)", model.name)


def test_a_local_model_draws_as_transformers_itself(gpt: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, set_seed

    tokenizer = AutoTokenizer.from_pretrained(gpt)
    theirs = AutoModelForCausalLM.from_pretrained(gpt)
    ids = tokenizer("Write 3 sentences.\n\n", return_tensors="pt")["input_ids"]
    set_seed(5)
    with torch.no_grad():
        out = theirs.generate(
            ids, do_sample=True, temperature=0.8, top_p=0.95, max_new_tokens=20, pad_token_id=0,
            attention_mask=torch.ones_like(ids),
        )  # fmt: skip
    expected = tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True)
    assert LocalModel(f"local-dir:{gpt}", "cpu").reply(SAID, seed=5, max_tokens=20) == expected


def test_a_chat_template_is_used(gpt: Path, tmp_path: Path) -> None:
    import shutil

    folder = tmp_path / "chat"
    shutil.copytree(gpt, folder)
    (folder / "chat_template.jinja").write_text(
        "{% for m in messages %}[{{ m.role }}] {{ m.content }}{% endfor %}[assistant]"
    )
    plain = LocalModel(f"local-dir:{gpt}", "cpu")
    said = [{"role": "user", "content": "[user] Write 3 sentences.[assistant]"}]
    model = LocalModel(f"local-dir:{folder}", "cpu")
    tokens = model._encoded(model._model[1], SAID)
    spelt = plain._encoded(plain._model[1], said)
    # Without a template two line breaks follow.
    assert tokens[0].tolist() == spelt[0, :-2].tolist()


def test_a_local_model_that_says_nothing_valid_is_given_up(
    gpt: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "a.jsonl"
    words = ["--finding", "Edema", "--attempts", "2", "--max-tokens", "10", "--device", "cpu"]
    code = main(["prompts", "generate", "--llm", f"local-dir:{gpt}", "--out", str(out), *words])
    err = capsys.readouterr().err
    assert code == 1
    assert "Edema (positive)" in err
    assert "and so for 1 other group;" in err
    assert not out.exists()


def test_an_instruction_longer_than_the_model_is_told(gpt: Path) -> None:
    said = [{"role": "user", "content": "a" * 3000}]
    with pytest.raises(RetuneError, match="takes 3000 tokens, the instruction alone has 3002"):
        LocalModel(f"local-dir:{gpt}", "cpu").reply(said, seed=0, max_tokens=5)


def test_a_model_that_is_no_language_model_is_told(gpt: Path, tmp_path: Path) -> None:
    import shutil

    from safetensors.torch import load_file, save_file

    folder = tmp_path / "half"
    shutil.copytree(gpt, folder)
    weights = load_file(folder / "model.safetensors")
    weights.pop("transformer.ln_f.weight")
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match=r"lacks 1 weights, e\.g\. transformer\.ln_f\.weight"):
        LocalModel(f"local-dir:{folder}", "cpu").reply(SAID, seed=0, max_tokens=5)

"""Language models that write prompts: what they have in common, and those of transformers in this process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Protocol

from retune.backbones.quiet import quiet
from retune.errors import UserError, gist

Message = Mapping[str, str]
"""``{"role": "user" | "assistant", "content": ...}``; no system role, which not every chat template knows."""

TEMPERATURE: Final = 0.8
TOP_P: Final = 0.95


class LanguageModel(Protocol):
    """What writes prompts."""

    @property
    def name(self) -> str:
        """What to record as the author; no path, port or key enters it."""
        ...

    def reply(self, messages: Sequence[Message], *, seed: int, max_tokens: int) -> str:
        """The next turn of a conversation; the same for the same seed, where the model allows that."""
        ...


class LocalModel:
    """A causal language model of transformers; its files are found at first use and no code of its own is run.

    Args:
        spec: ``local-dir:PATH`` or ``hf-hub:ORG/REPO``.
        device: Where it works.
    """

    def __init__(self, spec: str, device: str = "auto") -> None:
        self._spec, self._device = spec, device

    @cached_property
    def _files(self) -> Any:
        from retune.backbones.hf.files import find_hf_files

        return find_hf_files(self._spec, image=False, writes=True)

    @cached_property
    def name(self) -> str:
        """Repository and commit, or folder, and the digest of weights and tokenizer."""
        from retune.backbones.hf.files import fingerprint_of

        scheme, _, rest = self._spec.partition(":")
        known = f"{scheme}:{rest}" if scheme == "hf-hub" else self._files.folder.resolve().name
        return f"{known} (sha256 {fingerprint_of('causal language model', self._files)[:16]})"

    @cached_property
    def _model(self) -> tuple[Any, Any]:
        from retune.backbones.hf.load import load_tokenizer, with_files
        from retune.backbones.precision import choose_device

        device = choose_device(self._device)
        tokenizer = load_tokenizer(self._files)

        def load(folder: Path) -> Any:
            from transformers import AutoModelForCausalLM

            return AutoModelForCausalLM.from_pretrained(
                folder,
                torch_dtype="auto",
                output_loading_info=True,
                local_files_only=True,
                trust_remote_code=False,
                weights_only=True,
            )

        model, report = with_files(
            load, "is no causal language model that transformers can load", self._files
        )
        if missing := sorted(report.get("missing_keys", ())):
            # They would be filled with random numbers.
            raise UserError(f"lacks {len(missing)} weights, e.g. {missing[0]}", where=self._spec)
        return model.eval().requires_grad_(False).to(device), tokenizer

    def reply(self, messages: Sequence[Message], *, seed: int, max_tokens: int) -> str:
        """The next turn, drawn with a seed; the process's own random numbers are left as they were.

        Raises:
            UserError: If it cannot be loaded, or the conversation is longer than the model takes.
        """
        import torch

        model, tokenizer = self._model
        ids = self._encoded(tokenizer, messages).to(model.device)
        room = _context(model) - ids.shape[1]
        if room < 1:
            what = f"takes {_context(model)} tokens, the instruction alone has {ids.shape[1]}"
            raise UserError(what, where=self._spec, fix="shorten the instruction, or use another model")
        devices = [model.device] if model.device.type == "cuda" else []
        with torch.random.fork_rng(devices), torch.inference_mode(), quiet():
            torch.manual_seed(seed)
            out = model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                do_sample=True,
                temperature=TEMPERATURE,
                top_p=TOP_P,
                max_new_tokens=min(max_tokens, room),
                pad_token_id=tokenizer.pad_token_id
                if tokenizer.pad_token_id is not None
                else tokenizer.eos_token_id,
            )
        text: str = tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True)
        return text

    def _encoded(self, tokenizer: Any, messages: Sequence[Message]) -> Any:
        import torch

        with quiet():
            if tokenizer.chat_template is None:
                text = "\n\n".join(message["content"] for message in messages) + "\n\n"
                return torch.tensor([tokenizer(text)["input_ids"]])
            try:
                text = tokenizer.apply_chat_template(
                    list(messages), add_generation_prompt=True, tokenize=False
                )
            except Exception as error:
                raise UserError(
                    f"its chat template cannot be used ({gist(error)})", where=self._spec
                ) from error
            # The template has written the special tokens itself.
            return torch.tensor([tokenizer(text, add_special_tokens=False)["input_ids"]])


def _context(model: Any) -> int:
    return int(getattr(model.config, "max_position_embeddings", None) or 2**20)

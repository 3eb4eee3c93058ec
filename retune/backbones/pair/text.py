"""The text half of a pair: BERT-like and GPT-2-like language models in transformers' format."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from retune.backbones.hf.files import HfFiles, find_hf_files, fingerprint_of
from retune.backbones.hf.load import (
    class_of,
    config_of,
    kind_of,
    load_strictly,
    load_tokenizer,
    refuse_code,
    with_files,
)
from retune.backbones.pair.pooling import Vector, pooling_of
from retune.backbones.quiet import quiet
from retune.backbones.towers import TEXT_BATCH, Autocast, TextTower
from retune.errors import UserError, gist

WORDS: Final = 256
"""Texts are cut after so many word pieces, or fewer where the tower takes fewer."""

ADAPTER: Final = f"pair text of transformers/1, {WORDS} words"
"""Enters every fingerprint; goes up whenever this file would turn the same weights into other features."""

SHORTEST: Final = 32
"""Texts are padded to this length or to the next of its doubles, whatever their neighbours' lengths."""


@dataclass(frozen=True)
class _Kind:
    """How a model type is built and read.

    Args:
        model: Its class in transformers.
        causal: Whether a word sees only those before it, so that the last one stands for the text.
        lost: Positions that the tower counts but no word can take.
    """

    model: str
    causal: bool = False
    lost: int = 0


KINDS: Final[dict[str, _Kind]] = {
    "bert": _Kind("BertModel"),
    # Microsoft's CXR-BERT is a BERT, to which some of its releases add a projection that is left out here.
    "cxr-bert": _Kind("BertModel"),
    "roberta": _Kind("RobertaModel", lost=2),
    "gpt2": _Kind("GPT2Model", causal=True),
}


class TextHalf:
    """A frozen language model, found but not loaded until it is asked to encode.

    A text's vector is what the files of sentence-transformers say, where there are some; else the pooler's output
    where the checkpoint holds a pooler, else the first word's state (BERT-like), or the last word's state (GPT-2).

    Args:
        name: ``hf-hub:ORG/REPO`` or ``local-dir:PATH``.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    @cached_property
    def files(self) -> HfFiles:
        """Configuration, weights and tokenizer; found, and downloaded if need be, at first use."""
        return find_hf_files(self.name, image=False)

    @property
    def weights(self) -> Path | None:
        """The one file of its weights, where there is one."""
        return self.files.parts.get("model.safetensors")

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of weights, configuration, tokenizer and this adapter."""
        said = pooling_of(self.files.folder)
        return fingerprint_of(ADAPTER if said is None else f"{ADAPTER}, {said}", self.files)

    @property
    def dim(self) -> int:
        """Dimension of a text's vector and of a word's."""
        return int(self._config.hidden_size)

    @cached_property
    def parameters(self) -> int:
        """Number of parameters, counted without reading them."""

        def build(_: Path) -> int:
            with torch.device("meta"):
                return sum(p.numel() for p in self._class(self._config, **self._options).parameters())

        return with_files(build, "transformers cannot build this model", self.files)

    def load(self, device: torch.device, autocast: Autocast) -> TextModel:
        """The tower with its weights.

        Args:
            device: Where it works.
            autocast: Makes the context in which its products are done.

        Raises:
            UserError: If weights or tokenizer are damaged, or not those of this architecture.
        """
        tokenizer = self._tokenizer()
        # Other attentions may choose their kernel by whether a batch happens to hold padding.
        model = load_strictly(
            self._class, self.files, config=self._config, attn_implementation="eager", **self._options
        )
        limit = min(WORDS, int(self._config.max_position_embeddings) - self._kind.lost)
        return TextModel(
            self.files.where,
            model.to(device),
            tokenizer,
            limit,
            vector=self._vector,
            autocast=autocast,
        )

    def _tokenizer(self) -> Any:
        refuse_code(self.files, "tokenizer_config.json")
        tokenizer = load_tokenizer(self.files)
        if self._kind.causal and tokenizer.eos_token_id is None:
            raise UserError("its tokenizer names no eos_token", where=self.files.where)
        return tokenizer

    @cached_property
    def _kind(self) -> _Kind:
        kind: _Kind = kind_of(self.files, KINDS, "text tower")
        return kind

    @property
    def _class(self) -> Any:
        return class_of(self._kind.model, self.files)

    @cached_property
    def _config(self) -> Any:
        return config_of(self._class, self.files)

    @cached_property
    def _options(self) -> dict[str, Any]:
        if self._kind.causal:
            return {}
        # transformers would fill a missing pooler with random numbers.
        return {"add_pooling_layer": self._vector == "pooler"}

    @cached_property
    def _vector(self) -> Vector:
        if said := pooling_of(self.files.folder):
            return said
        if self._kind.causal:
            return "last"
        return "pooler" if any(key.endswith("pooler.dense.weight") for key in _keys(self.files)) else "first"


class TextModel(TextTower):
    """A loaded text tower; also the differentiable path from word embeddings on.

    Words are word pieces; the tokenizer's start and end tokens count as words.
    """

    def __init__(
        self,
        where: str,
        model: Any,
        tokenizer: Any,
        limit: int,
        *,
        vector: Vector,
        autocast: Autocast,
    ) -> None:
        self.where, self._vector = where, vector
        super().__init__(model, tokenizer, limit, autocast)

    def vectors(self, texts: Sequence[str]) -> Tensor:
        """Vectors of P texts, float32 (P, d_text) on the CPU; none depends on its neighbours."""
        vectors = torch.empty(len(texts), self.width)
        for rows, features, _, _ in self._batches(texts):
            vectors[rows] = features
        return vectors

    def words(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Last states of the words of P texts, (P, L, w) on the CPU, zero in padding, and the mask (P, L)."""
        done = list(self._batches(texts))
        length = max((int(mask.sum(1).max()) for _, _, _, mask in done), default=0)
        words = torch.zeros(len(texts), length, self.width)
        masks = torch.zeros(len(texts), length, dtype=torch.bool)
        for rows, _, states, mask in done:
            n = min(length, mask.shape[1])
            words[rows, :n] = (states * mask[..., None])[:, :n]
            masks[rows, :n] = mask[:, :n]
        return words, masks

    def _length(self, mask: Tensor) -> int:
        # Not cut to the words: the last bits of a product depend on its size.
        return mask.shape[1]

    def _embedding(self) -> torch.nn.Module:
        module: torch.nn.Module = self.tower.get_input_embeddings()
        self.width = int(module.embedding_dim)  # type: ignore[arg-type]
        return module

    def _tokens(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        rows = self._pieces(texts)
        return self._padded(rows, max(map(len, rows)))

    def _forward(self, words: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        out = self.tower(inputs_embeds=words, attention_mask=mask.long(), use_cache=False)
        states: Tensor = out.last_hidden_state
        n = mask.long().sum(1)
        if self._vector == "last":
            return states, states[torch.arange(len(states), device=states.device), n.sub(1).clamp(min=0)]
        if self._vector == "mean":
            return states, (states * mask[..., None]).sum(1) / n.clamp(min=1)[:, None]
        return states, out.pooler_output if self._vector == "pooler" else states[:, 0]

    def _batches(self, texts: Sequence[str]) -> Iterator[tuple[list[int], Tensor, Tensor, Tensor]]:
        """Texts of one padded length, so many at a time: their indices, vectors, states and mask."""
        pieces = self._pieces(texts)
        lengths = [self._rounded(len(row)) for row in pieces]
        for length in sorted(set(lengths)):
            same = [k for k, other in enumerate(lengths) if other == length]
            for start in range(0, len(same), TEXT_BATCH):
                rows = same[start : start + TEXT_BATCH]
                filled = rows + rows[-1:] * (TEXT_BATCH - len(rows))
                with torch.inference_mode():
                    ids, mask = self._padded([pieces[k] for k in filled], length)
                    states, features = (x.float().cpu() for x in self._run(self.embedding(ids), mask))
                n = len(rows)
                yield rows, features[:n], states[:n], mask[:n].cpu()

    def _pieces(self, texts: Sequence[str]) -> list[list[int]]:
        if not texts:
            return []
        with quiet():
            rows = self.tokenizer(
                list(texts), truncation=True, max_length=self.context_length, padding=False
            )["input_ids"]
        # A text without words is one end token.
        rows = [list(row) or [self.tokenizer.eos_token_id] for row in rows]
        self.require_known(max(map(max, rows)))
        return rows

    def _rounded(self, n: int) -> int:
        length = SHORTEST
        while length < n:
            length *= 2
        return min(length, self.context_length)

    def _padded(self, rows: list[list[int]], length: int) -> tuple[Tensor, Tensor]:
        # Nothing looks at what stands in padding.
        ids = torch.zeros(len(rows), length, dtype=torch.long)
        mask = torch.zeros(len(rows), length, dtype=torch.bool)
        for k, row in enumerate(rows):
            ids[k, : len(row)] = torch.tensor(row)
            mask[k, : len(row)] = True
        return ids.to(self.device), mask.to(self.device)


def _keys(files: HfFiles) -> list[str]:
    """Names of the tensors in a checkpoint."""
    names: list[str] = []
    for path in files.parts.values():
        try:
            if path.name.endswith(".index.json"):
                return list(json.loads(path.read_text(encoding="utf-8"))["weight_map"])
            if path.suffix == ".safetensors":
                from safetensors import safe_open

                with safe_open(path, "pt") as file:
                    names += file.keys()
            elif path.suffix == ".bin":
                # weights_only: a pickle that would run code is refused.
                names += torch.load(path, map_location="meta", weights_only=True)
        except Exception as error:
            raise UserError(f"is damaged ({gist(error)})", where=str(path)) from error
    return names

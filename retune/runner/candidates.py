"""What a search of settings chooses from: a strategy of each combination of the values asked for."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from retune.errors import BadSetting
from retune.settings import SEARCH, values_of

if TYPE_CHECKING:
    from retune.methods.strategy import Strategy

MOST: Final = 64
"""So many combinations at most."""


@dataclass(frozen=True)
class Candidates:
    """The strategies that a search of settings chooses from.

    Args:
        names: The settings that are searched.
        strategies: One of each combination of their values; the last setting varies fastest.
    """

    names: tuple[str, ...]
    strategies: tuple[Strategy, ...]

    @classmethod
    def make(
        cls,
        grid: Mapping[str, Sequence[Any]],
        build: Callable[[Mapping[str, Any]], Strategy],
        *,
        given: Mapping[str, Any],
    ) -> Candidates:
        """Build every candidate, which validates every value.

        Args:
            grid: The values of each setting; values may be text.
            build: Makes a strategy from these settings.
            given: What is set already.

        Raises:
            BadSetting: If a value is wrong or given twice, a setting is no strategy's or set as well, or there
                are too many combinations.
        """
        axes = {name.removeprefix("strategy.").replace("-", "_"): values for name, values in grid.items()}
        for name, values in axes.items():
            if "." in name:
                raise BadSetting(f"'{name}' is no setting of the strategy", where="--search", fix=SEARCH)
            if isinstance(values, str) or not len(values):
                raise BadSetting(f"{name} is given no list of values", where="--search", fix=SEARCH)
            if name in (key.replace("-", "_") for key in given):
                raise BadSetting(f"{name} is set as well", where="--search", fix="leave out one of them")
        size = math.prod(map(len, axes.values()))
        if size > MOST:
            raise BadSetting(
                f"{size:,} combinations are more than {MOST}", where="--search", fix="give fewer values"
            )
        made = [build(dict(zip(axes, values, strict=True))) for values in itertools.product(*axes.values())]
        candidates = cls(tuple(axes), tuple(made))
        texts = list(map(json.dumps, candidates.settings()))
        twice = next((text for text in texts if texts.count(text) > 1), None)
        if twice:
            raise BadSetting(f"{twice} is given twice", where="--search", fix="give each value once")
        return candidates

    def settings(self) -> list[dict[str, Any]]:
        """What is searched of each candidate's settings, as JSON values."""
        every = [values_of(strategy) for strategy in self.strategies]
        return [{name: values[name] for name in self.names} for values in every]

"""Presets are valid settings, and published figures are counted on the published architecture."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import retune
from retune.backbones.base import MEANINGS
from retune.catalog import card
from retune.errors import UnknownName, UserError
from retune.plugins import registry
from retune.runner.resolve import find_strategy
from retune.settings import make, settings_of, values_of

NAMES = registry("strategies").names()
PRESETS = [f"{name}/{preset}" for name in NAMES for preset in find_strategy(name)[0].presets]
LARGE = 100_000


class Allocations(TorchDispatchMode):
    """Notes every large tensor that is made outside the meta device."""

    def __init__(self) -> None:
        super().__init__()
        self.large: list[str] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, (list, tuple)) else (out,):
            if isinstance(tensor, torch.Tensor) and tensor.device.type != "meta" and tensor.numel() > LARGE:
                self.large.append(f"{func} {tuple(tensor.shape)}")
        return out


def test_there_are_presets() -> None:
    assert {"re-tune/paper", "re-tune/paper-steps"} <= set(PRESETS)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_valid_settings(name: str) -> None:
    cls, plain, preset = find_strategy(name)
    assert preset == cls.presets[name.rpartition("/")[2]]
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name.rpartition("/")[2])
    made = make(cls, preset, owner=name)
    assert values_of(made) == {**values_of(cls()), **json.loads(json.dumps(dict(preset)))}
    # As text it is the same: whoever copies it from the card to --set gets it.
    typed = {
        key: json.dumps(value) if isinstance(value, bool) else str(value) for key, value in preset.items()
    }
    assert make(cls, typed, owner=name) == made
    assert made.requires() <= set(MEANINGS)
    assert plain in NAMES


@pytest.mark.parametrize("name", PRESETS)
def test_the_card_of_a_preset_shows_its_settings(name: str) -> None:
    shown = {setting["name"]: setting["default"] for setting in card("strategy", name)["settings"]}
    cls, _, preset = find_strategy(name)
    assert shown == {**{s.name: s.default for s in settings_of(cls)}, **preset}


def test_an_unknown_preset_is_told_with_the_nearest() -> None:
    with pytest.raises(UnknownName, match=r"preset of strategy re-tune 'papers'; did you mean paper"):
        find_strategy("re-tune/papers")
    with pytest.raises(UnknownName, match="did you mean re-tune"):
        find_strategy("re-tun/paper")


def test_a_preset_of_a_distribution_s_strategy() -> None:
    cls, _, preset = find_strategy("re-tune/paper")
    assert find_strategy("retune/re-tune/paper") == (cls, "retune/re-tune", preset)


@pytest.mark.parametrize("name", NAMES)
def test_published_figures_are_reached_without_allocating(name: str) -> None:
    cls, _, _ = find_strategy(name)
    with Allocations() as seen:
        figures = cls.published_figures()
    assert not seen.large
    assert len({figure.name for figure in figures}) == len(figures)
    for figure in figures:
        assert figure.unit in ("parameters", "%")
        assert figure.source
        if figure.unit == "parameters":
            assert figure.ours == figure.published, figure
        else:
            assert figure.ours == pytest.approx(figure.published, abs=0.1), figure


def test_what_the_watch_on_allocations_sees() -> None:
    with Allocations() as seen, torch.device("meta"):
        torch.nn.Linear(1000, 1000)
    assert not seen.large
    with Allocations() as seen:
        torch.nn.Linear(1000, 1000)
    assert seen.large


FIGURES: dict[str, set[float]] = {
    "re-tune": {16_512, 65_920, 131_840},
    "adaptor": {12_011_009, 11_912_705, 12_207_617, 90.9, 92.9},
    "cleft": {2_621_440, 1_311_232, 393_728, 76_800, 3.6, 39.2},
    "m-flag": {23_508_032, 6_298_624, 3_677_184, 77.8},
    "clip-adapter": {524_288},
    "tip-adapter": {16_384_000},
    "coop": {2048},
    "biomed-coop": {3072},
}


@pytest.mark.parametrize("name", FIGURES)
def test_the_published_figures_are_there(name: str) -> None:
    """By their numbers as published, so that none is left out."""
    assert FIGURES[name] <= {
        round(figure.published, 2) for figure in find_strategy(name)[0].published_figures()
    }


@pytest.mark.parametrize("name", NAMES)
def test_parameter_counts_are_whole_and_grow_with_the_dimension(name: str) -> None:
    cls, _, _ = find_strategy(name)
    small, large = cls.parameter_counts(64, 14), cls.parameter_counts(128, 14)
    assert small.keys() == large.keys()
    assert all(isinstance(count, int) and count > 0 for count in small.values())
    assert all(small[variant] <= large[variant] for variant in small)


def test_settings_given_win_over_the_preset() -> None:
    made = retune.plan(
        retune.Spec(strategy="re-tune/paper", settings={"lr": "0.5", "data.images": 300, "data.size": 64})
    ).parts.strategy
    assert values_of(made)["lr"] == 0.5
    assert values_of(made)["adaptors"] == "shared"
    with pytest.raises(UserError, match="strategy re-tune, setting epochs"):
        retune.plan(retune.Spec(strategy="re-tune/paper", settings={"epochs": "0"}))

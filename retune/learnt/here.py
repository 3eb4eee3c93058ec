"""The backbone and the strategy of what was learnt, as they are here; no file that a folder names is imported."""

from __future__ import annotations

from pathlib import Path

from retune.avalanche_bridge import names as avalanche
from retune.backbones.base import Backbone
from retune.backbones.load import load_backbone
from retune.backbones.precision import Precision
from retune.errors import UnknownName, UserError
from retune.methods.strategy import Strategy
from retune.parts import part
from retune.plugins import BUILT_IN, is_file, registry
from retune.results.result import BackboneRecord, StrategyRecord
from retune.runner.guard import attributed
from retune.runner.resolve import code_beside, find_strategy, origin_of
from retune.settings import make, read_value


def backbone_of(
    told: BackboneRecord, where: str, given: str | type[Backbone] | Backbone | None, device: str
) -> Backbone:
    """The backbone that something was learnt on.

    Args:
        told: Which one.
        where: What says so, for messages.
        given: Where it is here, if its name does not tell.
        device: Where to encode.

    Raises:
        UserError: If it is not here, or another one.
    """
    if given is None and (is_file(told.name) or told.name.startswith(("features:", "local-dir:"))):
        raise UserError(
            f"its backbone '{told.name}' lies elsewhere", where=where, fix="say where: --backbone NAME"
        )
    precision = read_value(Precision, told.precision, where=f"{where}, precision")
    encoder = load_backbone(given or told.name, device=device, precision=precision)
    if encoder.precomputed:
        raise UserError("holds features, no encoder", where=encoder.name, fix=f"give {told.name} itself")
    if encoder.fingerprint != told.fingerprint:
        mine, its = encoder.fingerprint[:12], told.fingerprint[:12]
        raise UserError(
            f"backbone {encoder.name} here is another one ({mine}, the one it was learnt on is {its})",
            where=where,
            fix="give the one that it was learnt on: --backbone NAME",
        )
    return encoder


def strategy_of(told: StrategyRecord, where: str, given: str | type[Strategy] | None) -> Strategy:
    """The strategy that learnt, as it was set: one that is installed, or a file that the user hands over.

    Args:
        told: Which one.
        where: What says so, for messages.
        given: That file, or its class.

    Raises:
        UserError: If it is not here, or another one.
    """
    address = _address(told, where) if given is None else part("strategies", given, "strategy").name
    cls, name, _ = find_strategy(address)
    here = {
        "origin": origin_of(name),
        "version": cls.version,
        "code": code_beside(name, cls),
    }
    for what, mine in here.items():
        its = getattr(told, what)
        if mine != its:
            raise UserError(
                f"strategy {told.name} here is another one: its {what} is '{mine}', of the one that learnt '{its}'",
                where=where,
                fix="take the one that it was learnt with",
            )
    with attributed(cls, "__init__"):
        made: Strategy = make(cls, told.settings, owner=f"{where}, strategy {told.name}")
    return made


def _address(told: StrategyRecord, where: str) -> str:
    """The name by which the very strategy is found among those installed."""
    known = registry("strategies")
    if is_file(told.name) or told.origin.startswith(("file ", "notebook ")):
        raise UserError(
            f"its strategy {Path(told.name).name} is a file of its author's",
            where=where,
            fix="read that file, then hand it over: --strategy FILE.py",
        )
    if avalanche.is_bridged(told.name):
        return told.name
    if any((entry.name, entry.origin) == (told.name, told.origin) for entry in known.entries):
        return f"{told.origin}/{told.name}"
    if told.origin == BUILT_IN:
        raise UnknownName("strategy", told.name, known.names(), where=where)
    raise UserError(
        f"its strategy {told.name} is of the distribution '{told.origin}', which is not installed here",
        where=where,
        fix="install it",
    )

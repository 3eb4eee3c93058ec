"""What there is, and what each of it is: the lists and cards that ``retune list`` and ``show`` print."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, Final, cast

from retune.avalanche_bridge import names as avalanche
from retune.errors import PluginError, RetuneError, UnknownName, gist
from retune.plugins import Kind, is_file, registry
from retune.settings import settings_of

KINDS: Final = ("datasets", "backbones", "scenarios", "strategies", "transfers", "metrics", "prompts")
SINGULAR: Final = {
    "dataset": "datasets",
    "data": "datasets",
    "backbone": "backbones",
    "scenario": "scenarios",
    "strategy": "strategies",
    "transfer": "transfers",
    "metric": "metrics",
    "prompt": "prompts",
}


def listing(kind: str) -> list[dict[str, str]]:
    """Names of a kind with their origin and first line; no plugin is imported.

    Args:
        kind: One of :data:`KINDS`.
    """
    if kind == "prompts":
        from retune.prompts import names

        return [{"name": name, "origin": "retune", "summary": _bank(name)["summary"]} for name in names()]
    known = registry(cast(Kind, kind))
    rows = [
        {"name": name, "origin": entry.origin, "summary": entry.summary}
        for name, entry in zip(known.names(), known.entries, strict=True)
    ]
    if kind == "strategies":
        rows += [
            {"name": avalanche.PREFIX + name, "origin": avalanche.DISTRIBUTION, "summary": summary}
            for name, summary in avalanche.SUPPORTED.items()
        ]
    return rows


def card(kind: str, name: str, *, dim: int = 128, n_labels: int = 14, paper: bool = False) -> dict[str, Any]:
    """Everything to know of one name.

    Args:
        kind: One of :data:`KINDS`, or its singular.
        name: As listed.
        dim: Joint dimension that parameter counts are for.
        n_labels: Number of labels that they are for.
        paper: Of a strategy, add its paper's figures beside ours; the published architecture is
            built for it, though not allocated.

    Raises:
        UnknownName: If there is no such kind or name.
    """
    plural = SINGULAR.get(kind, kind)
    if plural not in KINDS:
        raise UnknownName("kind", kind, (*KINDS, *SINGULAR))
    makers: dict[str, Callable[[str], dict[str, Any]]] = {
        "datasets": _dataset,
        "backbones": _backbone,
        "scenarios": _scenario,
        "strategies": lambda n: _strategy(n, dim, n_labels, paper),
        "transfers": lambda n: _described(registry("transfers").load(n), registry("transfers").origin(n)),
        "metrics": _metric,
        "prompts": _bank,
    }
    try:
        return {"kind": plural, "name": name, **makers[plural](name)}
    except RetuneError:
        raise
    except Exception as error:
        if not is_file(name):
            raise
        fix = f"retune check {'strategy' if plural == 'strategies' else plural.removesuffix('s')} {name}"
        raise PluginError(f"cannot be shown ({gist(error)})", where=name, fix=fix) from error


def _described(cls: type[Any], origin: str, preset: Mapping[str, Any] | None = None) -> dict[str, Any]:
    module = inspect.getmodule(cls)
    summary = (inspect.getdoc(module) or inspect.getdoc(cls) or "").strip()
    body = (inspect.getdoc(cls) or "").split("\nArgs:")[0].strip()
    return {
        "origin": origin,
        "summary": summary,
        "description": body,
        "settings": [
            {**asdict(setting), "default": (preset or {}).get(setting.name, setting.default)}
            for setting in settings_of(cls)
        ],
    }


def _strategy(name: str, dim: int, n_labels: int, paper: bool) -> dict[str, Any]:
    from retune.runner.resolve import find_strategy, origin_of

    cls, plain_name, preset = find_strategy(name)
    figures = {"published_figures": [asdict(f) for f in cls.published_figures()]} if paper else {}
    return {
        **_described(cls, origin_of(plain_name), preset),
        "paper": cls.paper,
        "version": cls.version,
        "needs": sorted(cls.needs),
        "sees_everything": cls.sees_everything,
        **({"floor": True} if cls.floor else {}),
        "keeps_samples": cls.keeps_samples,
        "dim": dim,
        "n_labels": n_labels,
        "presets": {preset: dict(values) for preset, values in cls.presets.items()},
        "trainable_parameters": dict(cls.parameter_counts(dim, n_labels)),
        **figures,
    }


def _metric(name: str) -> dict[str, Any]:
    cls = registry("metrics").load(name)
    return {**_described(cls, registry("metrics").origin(name)), "better": cls.better}


def _scenario(name: str) -> dict[str, Any]:
    cls = registry("scenarios").load(name)
    told = {"data": cls.data, "paper": cls.paper, "alters_labels": cls.alters_labels}
    facts = {name: value for name, value in told.items() if value}
    return {**_described(cls, registry("scenarios").origin(name)), **facts, "patients_recur": cls.recurs}


def _dataset(name: str) -> dict[str, Any]:
    cls, plain_name, preset = registry("datasets").load_preset(name)
    bank = {"prompt_bank": preset["prompts"]} if "prompts" in preset else {}
    return {
        **_described(cls, registry("datasets").origin(plain_name), preset),
        "source": cls.source,
        "licence": cls.licence,
        "synthetic": cls.synthetic,
        "needs_root": cls.needs_root,
        "labels": list(preset.get("findings", cls.labels)),
        **({"transfer": cls.transfer} if cls.transfer else {}),
        **bank,
        "mapping": dict(cls.mapping),
        "presets": {preset: dict(values) for preset, values in cls.presets.items()},
    }


def _backbone(name: str) -> dict[str, Any]:
    from retune.backbones.load import load_backbone

    backbone = load_backbone(name)
    origin = "model" if ":" in name else registry("backbones").origin(name)
    return {
        "origin": origin,
        "summary": (inspect.getdoc(inspect.getmodule(type(backbone))) or "").split("\n")[0],
        "capabilities": sorted(backbone.capabilities),
        **{fact: value for fact, value in asdict(backbone.card).items() if value not in (None, ())},
    }


def _bank(name: str) -> dict[str, Any]:
    from retune.prompts import load

    bank = load(name)
    sources = {(p.source.kind, p.source.model) for p in bank.prompts}
    return {
        "origin": "retune",
        "summary": f"{len(bank.prompts)} prompts for {len(bank.findings)} findings; "
        + ", ".join(sorted(model for _, model in sources)),
        "fingerprint": bank.fingerprint,
        "sources": [f"{kind}: {model}" for kind, model in sorted(sources)],
        "prompts": [
            {"finding": f, "positive": len(bank.positive(f)), "negative": len(bank.negative(f))}
            for f in bank.findings
        ],
    }

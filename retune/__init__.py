"""The benchmark suite for continual learning of chest X-ray vision-language models."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from retune.backbones.base import Backbone, BackboneCard
    from retune.backbones.load import load_backbone
    from retune.check import check_backbone, check_dataset, check_metric, check_scenario, check_strategy
    from retune.data.dataset import Dataset, ImageSource, split_by_patient
    from retune.data.images import FileImages
    from retune.data.readers.base import Reader
    from retune.features.encode import encode_images, encode_texts
    from retune.methods.given import Context, Images, Training
    from retune.methods.strategy import Strategy
    from retune.metrics import continual_report
    from retune.metrics.own.base import OwnMetric
    from retune.plugins import registry
    from retune.prompts import PromptBank
    from retune.report.plot import plot
    from retune.results.collect import load
    from retune.results.explain import explain
    from retune.results.result import Result
    from retune.runner.plan import plan
    from retune.runner.run import run
    from retune.runner.spec import Spec
    from retune.scaffold import new_backbone, new_dataset, new_metric, new_scenario, new_strategy
    from retune.streams.stream import Experience, Scenario, Stream
    from retune.suite.run import suite as suite

__version__ = "0.1.0"

# Where each public name lives: imported when first used, so that `import retune` is instant.
_PUBLIC = {
    "Backbone": "retune.backbones.base",
    "BackboneCard": "retune.backbones.base",
    "Context": "retune.methods.strategy",
    "Dataset": "retune.data.dataset",
    "Experience": "retune.streams.stream",
    "FileImages": "retune.data.images",
    "ImageSource": "retune.data.dataset",
    "Images": "retune.methods.strategy",
    "OwnMetric": "retune.metrics.own.base",
    "PromptBank": "retune.prompts",
    "Reader": "retune.data.readers.base",
    "Result": "retune.results.result",
    "Scenario": "retune.streams.stream",
    "Spec": "retune.runner.spec",
    "Strategy": "retune.methods.strategy",
    "Stream": "retune.streams.stream",
    "Training": "retune.methods.strategy",
    "check_backbone": "retune.check",
    "check_dataset": "retune.check",
    "check_metric": "retune.check",
    "check_scenario": "retune.check",
    "check_strategy": "retune.check",
    "continual_report": "retune.metrics",
    "encode_images": "retune.features.encode",
    "encode_texts": "retune.features.encode",
    "explain": "retune.results.explain",
    "load": "retune.results.collect",
    "load_backbone": "retune.backbones.load",
    "new_backbone": "retune.scaffold",
    "new_dataset": "retune.scaffold",
    "new_metric": "retune.scaffold",
    "new_scenario": "retune.scaffold",
    "new_strategy": "retune.scaffold",
    "plan": "retune.runner.run",
    "plot": "retune.report.plot",
    "registry": "retune.plugins",
    "run": "retune.runner.run",
    "split_by_patient": "retune.data.dataset",
}

__all__ = [
    "Backbone",
    "BackboneCard",
    "Context",
    "Dataset",
    "Experience",
    "FileImages",
    "ImageSource",
    "Images",
    "OwnMetric",
    "PromptBank",
    "Reader",
    "Result",
    "Scenario",
    "Spec",
    "Strategy",
    "Stream",
    "Training",
    "__version__",
    "check_backbone",
    "check_dataset",
    "check_metric",
    "check_scenario",
    "check_strategy",
    "continual_report",
    "encode_images",
    "encode_texts",
    "explain",
    "load",
    "load_backbone",
    "new_backbone",
    "new_dataset",
    "new_metric",
    "new_scenario",
    "new_strategy",
    "plan",
    "plot",
    "registry",
    "run",
    "split_by_patient",
    "suite",
]


def __getattr__(name: str) -> Any:
    if name == "suite":  # a room, and what one does in it
        return import_module("retune.suite")
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'retune' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*globals(), *_PUBLIC, "suite"})

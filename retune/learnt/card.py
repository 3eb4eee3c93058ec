"""What an exported model says of itself to people, in the formats of Hugging Face."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from retune.learnt.model import NO_DEVICE
from retune.metrics.table import Metric, in_table
from retune.results.text import number, piped, plain, slug, stored
from retune.results.verdict import verdict

if TYPE_CHECKING:
    from retune.methods.memory import Stored
    from retune.results.result import DatasetRecord, MetricRecord, Result

TASK: Final = "image-classification"
TAGS: Final = ("chest-x-ray", "radiology", "multi-label", "continual-learning", "research-use-only")
TYPES: Final = {"auc": "roc_auc", "f1": "f1"}
"""Hugging Face's name of what a metric is made of, where it has one."""
HEAD: Final = """\
# In the format of Hugging Face's .eval_results/*.yaml. The Hub shows these values once each id is that of a data set
# there which is registered as a benchmark; those below are retune's own names. Research use only.
"""


def card(result: Result, kept: Stored) -> str:
    """``README.md``: front matter that the Hub reads, then what a person must know before using the model.

    Args:
        result: Of the run, its backbone named without folders, its cautions as they are to stand here.
        kept: What the model holds of single training images.
    """
    from huggingface_hub import EvalResult, ModelCardData

    data, strategy, backbone = result.dataset, result.strategy, result.backbone
    name = f"{strategy.called} on {backbone.name}, learnt from {data.name}"
    names = [slug(one) for one in data.name.split(",")]
    front = ModelCardData(
        license="unknown",
        library_name="retune",
        pipeline_tag=TASK,
        tags=[*TAGS, slug(strategy.name), slug(result.scenario.name), *_made(data)],
        datasets=names,
        metrics=sorted({_type(metric) for metric, _ in _measured(result)}),
        base_model=backbone.name.removeprefix("hf-hub:") if backbone.name.startswith("hf-hub:") else None,
        model_name=slug(name),
        eval_results=[
            EvalResult(
                task_type=TASK,
                task_name=f"multi-label, {result.scenario.name}",
                dataset_type="+".join(names),
                dataset_name=data.name,
                dataset_split="test",
                metric_type=_type(metric),
                metric_name=metric.heading,
                metric_value=found.value,
            )
            for metric, found in _measured(result)
        ],
    ).to_yaml()  # fmt: skip
    facts = "\n".join(f"- {what}: {plain(told)}" for what, told in _facts(result).items())
    warned = "\n".join(f"- {plain(line)}" for line in _warnings(result, kept))
    measured = [(plain(of.heading), *_cells(one), plain(of.meaning)) for of, one in _measured(result)]
    parts = [
        f"---\n{front}\n---",
        f"# {plain(name)}",
        f"> **{NO_DEVICE}**",
        plain(verdict(result) or ""),
        "## What it is",
        facts,
        "## Before you use it",
        warned,
        "## Numbers",
        f"On {data.n_test:,} test images of {data.n_test_patients:,} patients; intervals of "
        f"{result.bootstrap.level:.0%} from resampling patients.",
        "\n".join(piped(("metric", "value", "interval", ""), measured)),
        "\n".join(piped(("label", "AUC before", "AUC", "interval", "threshold"), _labels(result))),
        "## Use",
        "```sh\nretune predict FOLDER IMAGES --out scores.csv\n```",
        "IMAGES are PNG, JPEG or DICOM files of frontal chest radiographs, or folders of such.",
        "## Licence",
        "Nobody has said under which licence these weights may be used: that depends on the backbone's "
        f"({plain(backbone.licence or 'not said')}) and on the terms of the data. Whoever publishes them says so here.",
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def _facts(result: Result) -> dict[str, str]:
    data, strategy, backbone, cut = result.dataset, result.strategy, result.backbone, result.scenario
    return {
        "Method": f"{strategy.called}, version {strategy.version}, from {strategy.origin}",
        "Backbone": f"{backbone.name} (not in this folder), fingerprint {backbone.fingerprint}",
        "Learnt from": f"{data.name}, {data.n_train:,} images in {len(cut.experiences)} experiences of {cut.name}, "
        f"seed {result.run.seed}",
        "Data": data.source or "not said",
        "Labels": ", ".join(result.labels),
        "Prompts": f"{result.prompts.name}, in prompts.jsonl",
        "Run": f"{result.run.id}, {result.run.created}",
    }


def _made(data: DatasetRecord) -> list[str]:
    return ["synthetic-data"] if data.synthetic_word == "synthetic" else []


def _warnings(result: Result, kept: Stored) -> list[str]:
    seen, past = result.backbone.contaminated, ", ".join(result.backbone.pretraining_data) or "not said"
    never = [label for label, limit in zip(result.labels, result.thresholds, strict=True) if limit is None]
    samples = stored(kept.images, kept.features, kept.bytes)
    return [
        f"Contamination: {seen}. Pre-training data of the backbone: {past}; what it saw of the test data then decides "
        "what the numbers below are worth.",
        *(
            [f"It holds samples of training patients ({samples}): pass it on no further than their images."]
            if samples
            else []
        ),
        *result.cautions,
        "A label is called where its score reaches its threshold, frozen on training images when it was first learnt. "
        "Elsewhere another threshold may be right: choose it on patients of your own.",
        *([f"Without a threshold, for they were never learnt: {', '.join(never)}."] if never else []),
    ]


def metrics(result: Result) -> str:
    """``.eval_results/retune.yaml``."""
    from huggingface_hub.utils import yaml_dump  # type: ignore[attr-defined]

    data, level = slug(result.dataset.name), f"{result.bootstrap.level:.0%}"
    entries: list[dict[str, Any]] = [
        {
            "dataset": {"id": data, "task_id": f"{slug(result.scenario.name)}/{metric.key}"},
            "value": found.value,
            "date": result.run.created,
            "notes": f"{metric.meaning}; {level} interval {number(found.low)} to {number(found.high)}; "
            f"seed {result.run.seed}; retune run {result.run.id}; research use only",
        }
        for metric, found in _measured(result)
    ]
    return HEAD + str(yaml_dump(entries))


def _measured(result: Result) -> list[tuple[Metric, MetricRecord]]:
    """The metrics of a run that have a value, in order."""
    found = [(metric, result.metric(metric.key)) for metric in in_table("run")]
    return [(metric, one) for metric, one in found if one.value is not None]


def _type(metric: Metric) -> str:
    return TYPES.get(metric.basis, metric.basis)


def _cells(found: MetricRecord) -> tuple[str, str]:
    return number(found.value), _interval(found.low, found.high)


def _interval(low: float | None, high: float | None) -> str:
    return "" if low is None else f"{number(low)} to {number(high)}"


def _labels(result: Result) -> list[tuple[str, ...]]:
    before, after, low, high = (
        result.auc_matrix[0],
        result.auc_matrix[-1],
        result.auc_low[-1],
        result.auc_high[-1],
    )
    return [
        (
            plain(label),
            number(before[c]),
            number(after[c]),
            _interval(low[c], high[c]),
            "" if (limit := result.thresholds[c]) is None else f"{limit:.4g}",
        )
        for c, label in enumerate(result.labels)
    ]

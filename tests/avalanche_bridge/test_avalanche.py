"""Our streams on Avalanche's own strategies, with our metrics in its loggers."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from retune import Stream
from retune.avalanche_bridge.benchmark import to_avalanche
from retune.avalanche_bridge.quiet import quietly
from retune.data.dataset import Dataset
from retune.errors import UserError
from retune.methods.losses import masked_bce
from retune.metrics import auroc, final_auc, forgetting, forgetting_per_label
from retune.streams.cuts import masked

with quietly():
    from avalanche.logging import CSVLogger, TextLogger
    from avalanche.training.plugins import EvaluationPlugin
    from avalanche.training.supervised import AGEM, EWC, GDumb, Naive

    from retune.avalanche_bridge.metrics import multilabel_auroc_metrics

DIM, STEPS = 6, ((0, 1), (2,), (1, 3))
SIZE = {"train": 90, "test": 60}


@pytest.fixture(scope="module")
def stream() -> Stream:
    """Four findings in three experiences, the last of which shows one again; some values are unknown."""
    rng = np.random.default_rng(0)
    n = sum(SIZE.values())
    features = rng.standard_normal((n, DIM)).astype(np.float32)
    noise = rng.standard_normal((n, 4))
    targets = (features[:, :4] + 0.5 * noise > 0).astype(np.float32)
    targets[rng.random((n, 4)) < 0.1] = np.nan
    names = np.array([f"i{k:03d}" for k in range(n)])
    dataset = Dataset(
        name="made up",
        labels=("Edema", "Hernia", "Mass", "Nodule"),
        image_id=names,
        patient_id=names,
        split=np.repeat(list(SIZE), list(SIZE.values())),
        targets=targets,
        images=None,  # type: ignore[arg-type]
    )
    parts = np.array_split(dataset.rows("train"), len(STEPS))
    experiences = tuple(
        masked(dataset, t, rows, of) for t, (rows, of) in enumerate(zip(parts, STEPS, strict=True), 1)
    )
    return Stream(dataset, experiences, dataset.rows("test"))


@pytest.fixture(scope="module")
def features(stream: Stream) -> np.ndarray[Any, Any]:
    """What the labels were made of, noise apart."""
    return np.random.default_rng(0).standard_normal((sum(SIZE.values()), DIM)).astype(np.float32)


def trained_with(kind: Any, evaluator: Any, **settings: Any) -> Any:
    torch.manual_seed(3)
    model = torch.nn.Sequential(torch.nn.Linear(DIM, 8), torch.nn.ReLU(), torch.nn.Linear(8, 4))
    return kind(
        model=model,
        optimizer=torch.optim.SGD(model.parameters(), lr=0.5),
        criterion=masked_bce,
        train_mb_size=10,
        train_epochs=5,
        eval_mb_size=16,
        evaluator=evaluator,
        **settings,
    )


@pytest.mark.parametrize("task_labels", [False, True])
def test_the_benchmark_holds_the_stream(
    stream: Stream, features: np.ndarray[Any, Any], task_labels: bool
) -> None:
    benchmark = to_avalanche(stream, features, task_labels=task_labels)
    assert len(benchmark.train_stream) == len(benchmark.test_stream) == 3
    for t, shown in enumerate(stream.experiences):
        train, test = benchmark.train_stream[t], benchmark.test_stream[t]
        x, y, task = (torch.stack([torch.as_tensor(row[k]) for row in train.dataset]) for k in range(3))
        assert np.array_equal(x, features[shown.rows])
        assert np.array_equal(y, shown.targets, equal_nan=True)
        assert train.task_label == test.task_label == (t if task_labels else 0)
        assert task.tolist() == [train.task_label] * len(shown)
        assert train.classes_in_this_experience == list(STEPS[t])
        tested, truth = (torch.stack([row[k] for row in test.dataset]) for k in range(2))
        assert np.array_equal(tested, features[stream.test])
        others = [c for c in range(4) if c not in STEPS[t]]
        assert truth[:, others].isnan().all()
        assert np.array_equal(truth[:, STEPS[t]], stream.targets[:, STEPS[t]], equal_nan=True)


def test_features_that_do_not_fit_are_refused(stream: Stream, features: np.ndarray[Any, Any]) -> None:
    with pytest.raises(UserError, match=r"shape \(149, 6\) do not have a row for each of 150 images"):
        to_avalanche(stream, features[1:])


def test_metrics_are_ours_on_the_same_scores(stream: Stream, features: np.ndarray[Any, Any]) -> None:
    from sklearn.metrics import roc_auc_score

    (metric,) = metrics = multilabel_auroc_metrics(stream.labels)
    text = io.StringIO()
    naive = trained_with(Naive, EvaluationPlugin(metrics, loggers=[TextLogger(text)]))
    benchmark, tested = to_avalanche(stream, features), torch.from_numpy(features[stream.test])
    rows, expected, told = [], [], {}

    def look() -> None:
        nonlocal told
        told = naive.eval(benchmark.test_stream)
        with torch.no_grad():
            scores = naive.model(tested).double().numpy()
        rows.append(auroc(stream.targets, scores))
        known = ~np.isnan(stream.targets)
        expected.append(
            [roc_auc_score(stream.targets[known[:, c], c], scores[known[:, c], c]) for c in range(4)]
        )

    look()
    for experience in benchmark.train_stream:
        naive.train(experience)
        look()
    np.testing.assert_allclose(metric.matrix, rows, rtol=0, atol=1e-12)
    np.testing.assert_allclose(metric.matrix, expected, rtol=0, atol=1e-12)
    assert metric.first.tolist() == stream.first.tolist() == [1, 1, 2, 3]
    stem = "eval_phase/test_stream"
    assert told[f"MultilabelAUROC_Stream/{stem}"] == pytest.approx(final_auc(rows), abs=1e-12)
    assert told[f"StreamForgetting_AUROC/{stem}"] == pytest.approx(forgetting(rows, stream.first), abs=1e-12)
    lost = forgetting_per_label(rows, stream.first)
    assert told[f"ExperienceForgetting_AUROC/{stem}/Exp000"] == pytest.approx(lost[:2].mean(), abs=1e-12)
    assert told[f"ExperienceForgetting_AUROC/{stem}/Exp002"] == pytest.approx(lost[1], abs=1e-12)
    assert told[f"MultilabelAUROC_Exp/{stem}/Exp000"] == pytest.approx(np.mean(rows[-1][:2]), abs=1e-12)
    assert told[f"MultilabelAUROC_Label/{stem}/Mass"] == pytest.approx(rows[-1][2], abs=1e-12)
    assert metric.result() == pytest.approx(final_auc(rows), abs=1e-12)
    # Something was forgotten, so that the above could have been wrong.
    assert abs(float(forgetting(rows, stream.first))) > 0.001
    assert f"MultilabelAUROC_Stream/{stem} = {np.mean(rows[-1]):.4f}" in text.getvalue()
    history = naive.evaluator.get_all_metrics()[f"MultilabelAUROC_Stream/{stem}"][1]
    np.testing.assert_allclose(history, np.mean(rows, axis=1), rtol=0, atol=1e-12)


def test_evaluations_while_training_are_no_moments_of_the_stream(
    stream: Stream, features: np.ndarray[Any, Any]
) -> None:
    benchmark, matrices = to_avalanche(stream, features), []
    for every in (-1, 1):
        (metric,) = metrics = multilabel_auroc_metrics()
        with quietly():
            naive = trained_with(Naive, EvaluationPlugin(metrics, loggers=[]), eval_every=every)
        for experience in benchmark.train_stream:
            # Unshuffled, for its evaluations draw from the same generator.
            naive.train(experience, eval_streams=[benchmark.test_stream], shuffle=False)
            naive.eval(benchmark.test_stream)
        matrices.append(metric.matrix)
    # Avalanche's own evaluations come before training and after each epoch.
    assert np.isnan(matrices[0][0]).all()
    assert not np.isnan(matrices[1][0]).any()
    assert np.array_equal(*(m[1:] for m in matrices))


def test_csv_logger_takes_up_the_forgetting(
    stream: Stream, features: np.ndarray[Any, Any], tmp_path: Path
) -> None:
    (metric,) = metrics = multilabel_auroc_metrics()
    logger = CSVLogger(str(tmp_path))
    naive = trained_with(Naive, EvaluationPlugin(metrics, loggers=[logger]))
    benchmark = to_avalanche(stream, features)
    for experience in benchmark.train_stream:
        naive.train(experience)
        naive.eval(benchmark.test_stream)
    logger.close()
    last = [line.split(",") for line in (tmp_path / "eval_results.csv").read_text().splitlines()][-3:]
    lost = forgetting_per_label(metric.matrix, stream.first)
    assert [float(row[4]) for row in last] == [
        pytest.approx(np.nanmean(lost[list(of)]), abs=1e-4) for of in STEPS
    ]


@pytest.mark.parametrize(
    ("kind", "settings"), [(EWC, {"ewc_lambda": 1.0}), (AGEM, {"patterns_per_exp": 9, "sample_size": 9})]
)
def test_its_strategies_learn_on_it(
    stream: Stream, features: np.ndarray[Any, Any], kind: Any, settings: dict[str, Any]
) -> None:
    (metric,) = metrics = multilabel_auroc_metrics()
    with quietly():
        strategy = trained_with(kind, EvaluationPlugin(metrics, loggers=[]), **settings)
    benchmark = to_avalanche(stream, features, task_labels=True)
    strategy.eval(benchmark.test_stream)
    strategy.train(benchmark.train_stream)
    strategy.eval(benchmark.test_stream)
    assert np.nanmean(metric.matrix[-1]) > np.nanmean(metric.matrix[0]) + 0.1


def test_methods_that_ask_for_one_class_fail_loudly(stream: Stream, features: np.ndarray[Any, Any]) -> None:
    with quietly():
        gdumb = trained_with(GDumb, EvaluationPlugin(loggers=[]), mem_size=10)
    with quietly(), pytest.raises(AssertionError):
        gdumb.train(to_avalanche(stream, features).train_stream[0])


README = Path(__file__).parents[2] / "strategies" / "README.md"
(EXAMPLE,) = re.findall(
    r"## Avalanche.*?```python\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL
)


@pytest.mark.slow
def test_ten_lines_train_and_judge_with_avalanche(capsys: pytest.CaptureFixture[str]) -> None:
    few = EXAMPLE.replace('"class-incremental"', '"class-incremental", settings={"data.images": 250}')
    assert few != EXAMPLE
    known: dict[str, Any] = {}
    with quietly():
        exec(few, known)
    told = known["ewc"].evaluator.get_last_metrics()
    printed = capsys.readouterr().out
    for name in ("MultilabelAUROC_Stream", "StreamForgetting_AUROC"):
        value = told[f"{name}/eval_phase/test_stream"]
        assert -1 <= value <= 1
        assert f"{name}/eval_phase/test_stream = {value:.4f}" in printed
    assert len(known["evaluator"].get_all_metrics()["MultilabelAUROC_Stream/eval_phase/test_stream"][1]) == 5


QUIET = """
import sys
import retune.catalog, retune.runner.spec
retune.catalog.listing("strategies"), retune.catalog.card("strategy", "avalanche:EWC")
assert not [m for m in sys.modules if m.split(".")[0] in ("avalanche", "wandb", "qpsolvers")]
import torch
from retune.avalanche_bridge.names import load
from retune.methods.given import Context, Images, Training
strategy = load("avalanche:Replay")(start="zeros", epochs=1)
strategy.setup(Context(("Edema", "Mass"), 4, None, 0))
images = Images(6, {"features": lambda: torch.ones(6, 4)})
strategy.fit(Training(images, torch.eye(2).repeat(3, 1), (0, 1), 0, None, torch.arange(6)))
assert strategy.score(images).shape == (6, 2)
assert "memory.features" in strategy.state_dict()
assert "avalanche" in sys.modules
"""


@pytest.mark.slow
def test_avalanche_is_imported_only_when_used_and_says_nothing() -> None:
    """In a process of its own: what is printed at import is printed once."""
    done = subprocess.run(
        [sys.executable, "-W", "default", "-c", QUIET], capture_output=True, text=True, check=False
    )
    ours = re.compile("retune|avalanche|qpsolvers|wandb|Warning")
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert not [line for line in done.stderr.splitlines() if ours.search(line)], done.stderr

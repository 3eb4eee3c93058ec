"""What runs measured of another task: in a terminal, compared over seeds and patients, in every file of a suite."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from made_runs import made_run, made_scores, made_targets
from made_transfers import NOBODY, made_transfer

from retune.cli.main import main
from retune.cli.suite_tables import print_tables
from retune.cli.tables import print_run, print_seeds
from retune.errors import BadSetting, UnknownName
from retune.metrics import patient_weights
from retune.metrics.table import COMPARED, DENSE
from retune.results.result import Result
from retune.results.text import number
from retune.suite.compare import compare
from retune.suite.grid import expand
from retune.suite.spec import read_suite
from retune.suite.summary import Summary, summarise
from retune.suite.tables import write_tables
from retune.suite.work import shared

KEYS = [metric.key for metric in DENSE]
HEADS = [metric.heading for metric in DENSE]


def made(folder: Path, methods, seeds=(0, 1)):
    targets, patients = made_targets(rows=90)
    return [
        made_run(folder, name, seed, made_scores(targets, skill, seed), targets, patients, transfer=of(seed))
        for seed in seeds
        for name, skill, of in methods
    ]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    methods = [
        ("steady", 2.0, lambda seed: made_transfer(seed, (0.8, 0.8, 0.8, 0.8), moves=False)),
        ("loses", 1.0, lambda seed: made_transfer(10 + seed)),
        ("unasked", 0.5, lambda seed: None),
    ]
    return made(tmp_path_factory.mktemp("runs"), methods)


@pytest.fixture(scope="module")
def written(runs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tables")
    summary = summarise(runs, replicates=5)
    write_tables(summary, folder)
    return summary, folder


def _dice(sums, weight, moment, probe, finding):
    """Of one resample, by a loop over images."""
    both = area = 0
    for image, times in zip(sums[probe, moment, :, finding].astype(int), weight, strict=True):
        both, area = both + times * image[0], area + times * (image[1] + image[2])
    return 2 * both / area


def test_methods_are_paired_over_the_patients_of_the_transfer(runs) -> None:
    weights = patient_weights(made_transfer()[3], 5, 0)
    expected = []
    for seed in (0, 1):
        lost = []
        for transfer in (made_transfer(10 + seed), made_transfer(seed, (0.8, 0.8, 0.8, 0.8), moves=False)):
            sums = transfer[2]
            rows = [np.ones(len(sums[0, 0]), dtype=int), *weights.astype(int)]
            lost.append(
                [
                    np.mean(
                        [
                            max(_dice(sums, row, i, 0, k) for i in range(3)) - _dice(sums, row, 3, 0, k)
                            for k in range(3)
                            if k != NOBODY
                        ]
                    )
                    for row in rows
                ]
            )
        expected.append(np.subtract(*lost))
    found = compare(runs, replicates=5).difference("loses", "steady", "dense_forgetting")
    mean = np.mean(expected, axis=0)
    assert found.mean == pytest.approx(mean[0])
    assert [found.low, found.high] == pytest.approx(np.quantile(mean[1:], [0.025, 0.975]))
    assert found.n == 2


def test_every_file_of_a_suite_has_the_columns(written) -> None:
    summary, folder = written
    rows = {row["strategy"]: row for row in csv.DictReader(io.StringIO((folder / "table.csv").read_text()))}
    steady, loses = ({key: float(rows[name][f"{key}_mean"]) for key in KEYS} for name in ("steady", "loses"))
    assert loses["dense_forgetting"] > 0.1 > steady["dense_forgetting"] == steady["head_drift"] == 0
    assert {rows["unasked"][f"{key}_mean"] for key in KEYS} == {""}
    assert float(rows["loses"]["dense_final_to_best_high"]) < 0
    (head,) = [line for line in (folder / "table.md").read_text().splitlines() if line.startswith("| method")]
    assert [cell.strip() for cell in head.split("|")][-8:-4] == HEADS
    latex = (folder / "table.tex").read_text()
    assert all(head.replace(" ", r"\\") in latex or head in latex for head in HEADS)
    assert Summary.read(folder / "table.json") == summary


def test_what_needs_no_picture_and_what_does_not_move_is_said(written, capsys) -> None:
    from rich.console import Console

    summary, _ = written
    with (console := Console(width=80)).capture() as caught:
        print_tables(summary, console)
    text = " ".join(caught.get().split())
    assert all(head in text for head in HEADS)
    assert "Without looking at a picture: empty .000, prior .061." in text
    assert "The image side does not move, and is measured once: steady." in text
    assert "fewer than 5 positives to learn from or to be judged on: Heart" in text
    assert max(map(len, caught.get().splitlines())) <= 80


def test_without_a_transfer_tables_are_what_they_were(tmp_path) -> None:
    runs = made(tmp_path / "runs", [("a", 2.0, lambda seed: None), ("b", 1.0, lambda seed: None)])
    write_tables(summarise(runs, replicates=5), tmp_path)
    everything = "".join((tmp_path / name).read_text() for name in ("table.md", "table.csv", "table.tex"))
    assert not re.search(r"dense|drift|empty|prior", everything)
    (setting,) = json.loads((tmp_path / "table.json").read_text())["settings"]
    assert "transfer" not in setting
    assert {key for row in setting["rows"] for key in row["metrics"]} == {metric.key for metric in COMPARED}


def test_what_was_measured_on_other_tasks_is_not_compared(tmp_path) -> None:
    methods = [
        ("all", 2.0, made_transfer),
        ("tenth", 1.0, lambda seed: made_transfer(seed, settings={"size": 128, "share": 0.1})),
    ]
    compared = compare(made(tmp_path, methods), replicates=5)
    assert compared.metrics == COMPARED


def test_without_the_same_resamples_there_is_a_number_and_no_interval(tmp_path) -> None:
    compared = compare(made(tmp_path, [("a", 1.0, made_transfer)]), replicates=7)
    found = compared.estimate("a", "dense_final")
    values = [made_transfer(seed)[0]["metrics"]["dense_final"]["value"] for seed in (0, 1)]
    assert found.mean == pytest.approx(np.mean(values))
    assert found.low is None


def test_a_run_shows_each_finding_beside_what_predicting_nothing_scores(runs, capsys, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    run = next(run for run in runs if run.strategy == "loses")
    print_run(run.result, run.folder)
    text = capsys.readouterr().out
    assert max(len(line) for line in text.splitlines() if not line.startswith(("Written", "retune"))) <= 80
    record = run.result.transfer[0]
    first, second = [line.split()[1:] for line in text.splitlines() if line.startswith("Edema ")]
    of = record.refit
    lost = max(row[1] for row in of["dice"][:-1]) - of["dice"][-1][1]
    assert first[:3] == [str(record.positives_test[1]), number(of["dice"][0][1]), number(of["dice"][-1][1])]
    assert first[-3:] == [number(lost, signed=True), number(record.kept["dice"][-1][1]), ".062"]
    ends = [number(of[key][-1][1]) for key in ("positives", "auroc", "false_alarm", "published")]
    assert second == [ends[0], ".600", ends[1], ends[2], ends[3], ".450", ".200"]
    for metric in DENSE:
        value = record.metrics[metric.key].value
        assert re.search(rf"^{metric.heading} +{re.escape(number(value))} ", text, re.MULTILINE)
    assert "judged on: Heart." in " ".join(text.split())
    assert "does not move" not in text


def test_seeds_have_mean_and_deviation_and_a_still_image_side_is_told(runs, capsys) -> None:
    same = [run for run in runs if run.strategy == "loses"]
    print_seeds([(run.result, run.folder) for run in same])
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("dense forgetting"))
    values = [run.result.metric("dense_forgetting").value for run in same]
    assert line.split()[2:5] == [number(np.mean(values)), number(np.std(values, ddof=1)), "2"]
    still = runs[0]
    print_run(Result.read(still.folder), still.folder)
    assert "does not move: measured once" in " ".join(capsys.readouterr().out.split())


def test_a_suite_asks_for_it_once_for_all_runs(tmp_path) -> None:
    file = tmp_path / "suite.toml"
    file.write_text(
        'strategies = ["ridge", "joint"]\nscenarios = ["class-incremental"]\nseeds = 1\n'
        'transfer = "segmentation:phantom"\nroot = { phantom = "there" }\n'
        "[set]\ntransfer.images = 300\n"
    )
    specs = [run.spec for run in expand(read_suite(file), shared).runs]
    assert {spec.transfer for spec in specs} == {"segmentation:phantom"}
    assert {spec.settings["transfer.images"] for spec in specs} == {300}
    assert "--transfer segmentation:phantom" in " ".join(specs[0].words())


@pytest.mark.parametrize(
    ("options", "error", "told"),
    [
        ({"transfer": "segmentatoin"}, UnknownName, "segmentation"),
        ({"transfer": "segmentation:phantoom"}, UnknownName, "phantom"),
        ({"set": {"transfer.size": 64}}, BadSetting, "transfer"),
    ],
)  # fmt: skip
def test_a_slip_is_told_before_anything_runs(options, error, told) -> None:
    with pytest.raises(error, match=told):
        expand(read_suite(None, {"strategies": ["ridge"], **options}), shared)


def test_the_command_takes_it(tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["suite", "--strategy", "ridge", "--transfer", "segmentatoin", "--dry-run"]) == 2
    assert "segmentation" in capsys.readouterr().err

"""Several task orders: what order k is, and how methods vary over orders."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from statistics import fmean, stdev

import numpy as np
import pytest
from made_runs import FIRST, change_json, made_run, made_scores, made_targets

from retune import Scenario, Stream
from retune.check.scenario import check_scenario
from retune.check.tables import several
from retune.cli.console import console
from retune.cli.main import main
from retune.cli.suite_tables import print_tables
from retune.errors import BadSetting
from retune.plugins import registry
from retune.results.result import RESULT_FILE
from retune.results.text import number
from retune.runner.shared import Shared
from retune.sealed import seal_json
from retune.settings import make, settings_of
from retune.suite.document import SCHEMA, SUITE_FILE
from retune.suite.grid import expand
from retune.suite.orders import ORDER_HEADS, over_orders
from retune.suite.spec import read_suite
from retune.suite.summary import Summary, summarise
from retune.suite.tables import TABLE_FILE, markdown, write_tables

CLASSES: dict[str, type[Scenario]] = {
    name: registry("scenarios").load(name) for name in registry("scenarios").names()
}
ORDERED = [name for name, cls in CLASSES.items() if "task_order" in {s.name for s in settings_of(cls)}]


def cut(name: str, order: int, seed: int = 3, **settings: object) -> Stream:
    return make(CLASSES[name], {"task_order": order, **settings}, owner=name).stream(several(), seed)


def brought(stream: Stream) -> list[frozenset[int]]:
    """The labels that each experience is the first to observe; of a recurring task, its labels."""
    return [frozenset(e.observed) for e in stream.experiences]


@pytest.mark.parametrize("name", ORDERED)
def test_an_order_brings_the_same_tasks_otherwise(name: str) -> None:
    own, other = cut(name, 1), cut(name, 2)
    assert own.fingerprint == make(CLASSES[name], {}, owner="").stream(several(), 3).fingerprint
    assert cut(name, 2).fingerprint == other.fingerprint != own.fingerprint
    assert other.dataset.fingerprint == own.dataset.fingerprint
    assert np.array_equal(other.test, own.test)
    if name == "label-incremental":  # groups add up: the last shows every label either way
        assert brought(own)[-1] == brought(other)[-1]
        assert brought(own)[:-1] != brought(other)[:-1]
    else:
        assert sorted(map(sorted, brought(own))) == sorted(map(sorted, brought(other)))
        assert brought(own) != brought(other)
    assert check_scenario(name, {"task_order": 2}).failed == {}


def test_orders_differ_and_are_the_same_with_every_seed() -> None:
    six = [tuple(brought(cut("class-incremental", k, steps=3))) for k in range(1, 7)]
    assert len(set(six)) == 6
    assert six == [tuple(brought(cut("class-incremental", k, seed=8, steps=3))) for k in range(1, 7)]
    with pytest.raises(BadSetting, match="3 groups of labels have 6 orders, and number 7 is asked for"):
        cut("class-incremental", 7, steps=3)


def test_patients_stay_in_their_parts() -> None:
    for one, other in zip(
        cut("class-incremental", 1).experiences, cut("class-incremental", 2).experiences, strict=True
    ):
        assert np.array_equal(one.rows, other.rows)


def test_a_suite_runs_orders_where_there_are_some() -> None:
    asked = {"strategies": ["ridge"], "scenarios": ["class-incremental", "data-incremental"], "seeds": 1}
    runs = expand(read_suite(None, {**asked, "orders": 3}), Shared()).runs
    assert [(run.scenario, run.order) for run in runs] == [
        *(("class-incremental", order) for order in "123"),
        ("data-incremental", ""),
    ]
    assert [run.spec.settings.get("scenario.task_order") for run in runs] == [1, 2, 3, None]
    assert "class-incremental, task order 2," in runs[1].name
    named = expand(read_suite(None, {**asked, "orders": ["random"]}), Shared()).runs
    assert named[0].spec.settings == {"scenario.order": "random"}


def test_mean_and_deviation_over_orders_beside_that_over_seeds(tmp_path: Path) -> None:
    targets, patients = made_targets()
    runs = [
        replace(
            made_run(
                tmp_path / order, name, seed, made_scores(targets, skill, 10 * seed + int(order), lost=0.2),
                targets, patients, first=FIRST, stream=order,
            ),
            order=order,
        )
        for name, skill in (("weak", 0.3), ("strong", 2.0))
        for order in ("1", "2", "10")
        for seed in (0, 1)
    ]  # fmt: skip
    summary = summarise(runs, replicates=5)
    assert [setting.order for setting in summary.settings] == ["1", "2", "10"]
    (table,) = over_orders(summary.settings)
    assert [row[:2] for row in table.rows] == [["strong", "3"], ["weak", "3"]]
    finals = {
        (run.order, run.seed): run.result.metric("final_auc").value for run in runs if run.strategy == "weak"
    }
    pairs = [[finals[order, seed] for seed in (0, 1)] for order in ("1", "2", "10")]
    means = [fmean(pair) for pair in pairs]
    within = fmean(stdev(pair) ** 2 for pair in pairs) ** 0.5
    assert table.rows[1][2:5] == [number(fmean(means)), number(stdev(means)), number(within)]
    assert "## Over 3 task orders: class-incremental, made, made-clip" in markdown(summary)


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A suite of two methods in task orders 2 and 1, without what ran it."""
    folder, (targets, patients) = tmp_path_factory.mktemp("suite"), made_targets()
    runs = []
    for order in ("2", "1"):
        for name, skill in (("linear-probe/trunk", 2.0), ("a-name-of-its-own-that-is-long", 0.3)):
            scores = made_scores(targets, skill, int(order))
            run = made_run(folder / order, name, 0, scores, targets, patients, first=FIRST, stream=order)
            settings = {"order": "dataset"} | ({"task_order": 2} if order == "2" else {})
            change_json(
                run.folder / RESULT_FILE,
                lambda document, settings=settings: document["scenario"].update(settings=settings),
            )
            runs.append(replace(run, order=order))
    names = ("strategy", "scenario", "data", "backbone", "order", "seed")
    rows = [
        {name: getattr(run, name) for name in names}
        | {"id": run.result.run.id, "folder": str(run.folder.relative_to(folder))}
        for run in runs
    ]
    (folder / SUITE_FILE).write_bytes(seal_json({"schema": SCHEMA, "runs": rows}))
    write_tables(summarise(runs, replicates=5), folder)
    return folder


def test_the_page_names_and_sorts_orders_and_has_their_table(suite: Path) -> None:
    assert main(["report", str(suite), "--out", str(suite / "report")]) == 0
    page = (suite / "report" / "report.html").read_text()
    heads = re.findall(r"<h3[^>]*>(class[^<]*)</h3>", page)
    assert heads == [f"class-incremental, task order {k}, 3 steps, prompts made" for k in (1, 2)]
    assert "Best on class-incremental, task order 1: linear-probe/trunk" in page
    _, table = page.split("<h4>Over 2 task orders: class-incremental, made, made-clip</h4>")
    shown = re.findall(r"<t[hd][^>]*>([^<]+)</t[hd]>", table.split("</table>")[0])
    (found,) = over_orders(Summary.read(suite / TABLE_FILE).settings)
    assert shown == [*ORDER_HEADS, *(cell for row in found.rows for cell in row)]


@pytest.mark.parametrize("width", [80, 66])
def test_no_word_of_their_table_is_broken(
    suite: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    print_tables(Summary.read(suite / TABLE_FILE), console())
    told = capsys.readouterr().out
    table = told[told.index("Over 2 task orders") : told.index("Mean over task orders")]
    assert max(map(len, table.splitlines())) <= width
    heads = {word for head in ORDER_HEADS for word in head.split()}
    names = {"linear-probe/trunk", "a-name-of-its-own-that-is-long"}
    assert (heads | names) - set(table.split()) == set()


def test_one_order_needs_no_table(tmp_path: Path) -> None:
    targets, patients = made_targets()
    run = made_run(tmp_path, "one", 0, made_scores(targets, 1.0, 0), targets, patients)
    assert over_orders(summarise([run, replace(run, order="1")], replicates=5).settings) == []


@pytest.mark.parametrize(
    ("asked", "line"),
    [
        ("suite --orders 0", "--orders: 0 is not from 1 to 1,000"),
        (
            "suite --dry-run --orders 2 --set scenario.task_order=3",
            "setting scenario.task_order exclude each other; give one",
        ),
        ("suite --orders 3 --order random", "--order and --orders exclude each other"),
        ("suite --scenario data-incremental --orders 2", "no scenario here has the setting task_order"),
        ("run --set scenario.task_order=0", "setting task_order: '0' is not whole number >= 1 and <= 1000"),
    ],
    ids=["none", "set", "both", "no-order", "zero"],
)
def test_mistakes_are_one_line(capsys: pytest.CaptureFixture[str], asked: str, line: str) -> None:
    assert main(asked.split()) == 2
    told = capsys.readouterr().err
    assert line in told
    assert told.count("error") == 1

"""A report of a suite's folder: the suite's names, and the intervals of its table."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import retune
from retune.cli.main import main
from retune.metrics.table import in_table
from retune.report import write_report
from retune.report.groups import Runs
from retune.sealed import seal_json

HOSTILE = "<script>alert(1)</script>\"'{{ 7*7 }}"
SUITE = """
seeds = 2
steps = 2
replicates = 40
scenarios = ["class-incremental"]
strategies = [
    "ridge",
    { strategy = "ridge", name = "ridge, light", set = { penalty = 1.0 } },
    { strategy = "ridge", name = "%s", set = { penalty = 2.0 } },
]

[set]
"data.images" = 200
"data.size" = 64
"""
SPAN = r"([−+]?\d?\.\d{3}) to ([−+]?\d?\.\d{3})( \*)?"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    (folder / "small.toml").write_text(SUITE % HOSTILE.replace('"', '\\"'))
    assert main(["suite", str(folder / "small.toml"), "--jobs", "1", "--out", str(folder / "out")]) == 0
    return folder / "out"


@pytest.fixture
def suite(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "suite"))


def change(file: Path, how: Callable[[dict[str, Any]], None]) -> None:
    document = json.loads(file.read_text())
    how(document)
    file.write_bytes(seal_json(document))


def names(runs: Runs) -> set[str]:
    return {method.label for section in runs.sections for method in section.methods}


def intervals(out: Path) -> list[tuple[str, str, str]]:
    """Every interval of the table but the differences, method by method as they stand."""
    page = (out / "report.html").read_text()
    table = page[page.index("the best first") : page.index("<h4>Curves")]
    return [found for found in re.findall(SPAN, table) if not any(end.startswith("+") for end in found)]


def told(low: float, high: float, mark: str = "") -> tuple[str, str, str]:
    ends = (f"{end:.3f}".replace("0.", ".", 1).replace("-", "−") for end in (low, high))
    return (*ends, mark)  # type: ignore[return-value]


def test_methods_are_called_what_the_suite_calls_them(suite: Path, tmp_path: Path) -> None:
    assert names(write_report([suite], tmp_path / "a")) == {"ridge", "ridge, light", HOSTILE}
    page = (tmp_path / "a" / "report.html").read_text()
    assert "<script" not in page
    assert HOSTILE in unescape(page)
    # Also where only some of its runs are reported.
    (run, *_) = sorted(suite.glob("runs/*/*"))
    assert names(write_report([run], tmp_path / "b")) < {"ridge", "ridge, light", HOSTILE}


def test_a_name_that_tells_nothing_is_not_taken(suite: Path, tmp_path: Path) -> None:
    def call_all_alike(document: dict[str, Any]) -> None:
        for run in document["runs"]:
            run["strategy"] = "mine"

    change(suite / "suite.json", call_all_alike)
    apart = {f"ridge, penalty={penalty}" for penalty in ("none", "1.0", "2.0")}
    assert names(write_report([suite], tmp_path / "a")) == apart


def test_a_method_with_two_names_is_told_by_its_settings(suite: Path, tmp_path: Path) -> None:
    change(suite / "suite.json", lambda d: d["runs"][0].update(strategy="one"))
    assert names(write_report([suite], tmp_path / "a")) == {"ridge, penalty=none", "ridge, light", HOSTILE}


def test_a_suite_s_document_that_is_none_is_told(suite: Path, tmp_path: Path) -> None:
    for content, told in (
        (b"[]", "made by an earlier version, or damaged"),
        (seal_json({"schema": "retune.suite-plan/1", "runs": [{"id": 3}]}), "is not a suite's"),
        (b"\x00", "is not as it was written"),
    ):
        (suite / "suite.json").write_bytes(content)
        found = write_report([suite], tmp_path / "a")
        assert len(found.results) == 6
        (note,) = found.notes
        assert f"suite.json: {told}" in note
    (suite / "suite.json").unlink()
    assert write_report([suite], tmp_path / "a").notes == ()


def test_intervals_are_those_of_the_table(suite: Path, tmp_path: Path) -> None:
    table = json.loads((suite / "table.json").read_text())
    rows = {row["strategy"]: row["metrics"] for row in table["settings"][0]["rows"]}
    found = write_report([suite], tmp_path / "a")
    wanted = [
        told(ends["low"], ends["high"])
        for group in found.sections[0].streams[0].groups
        for metric in in_table("report")
        if (ends := rows[group.method.label][metric.key])["n"]
    ]
    assert len(wanted) >= 2 * 6
    assert set(wanted) <= set(intervals(tmp_path / "a"))
    # The same are measured where there is no table.
    (suite / "table.json").unlink()
    write_report([suite], tmp_path / "b")
    assert (tmp_path / "b" / "report.html").read_bytes() == (tmp_path / "a" / "report.html").read_bytes()


@pytest.mark.parametrize("outdated", [False, True])
def test_a_table_is_believed_where_it_is_of_these_runs(suite: Path, tmp_path: Path, outdated: bool) -> None:
    def move(document: dict[str, Any]) -> None:
        for row in document["settings"][0]["rows"]:
            for estimate in row["metrics"].values():
                estimate.update(low=0.111, high=0.222)
            row["metrics"]["final_auc"]["mean"] += 0.01 * outdated

    change(suite / "table.json", move)
    write_report([suite], tmp_path / "a")
    assert ((".111", ".222", "") in intervals(tmp_path / "a")) is not outdated


def test_without_scores_ends_are_averaged_and_that_is_said(suite: Path, tmp_path: Path) -> None:
    (suite / "table.json").unlink()
    write_report([suite], tmp_path / "a")
    assert "where marked *" not in (tmp_path / "a" / "report.html").read_text()
    for file in suite.rglob("scores.safetensors"):
        file.unlink()
    found = write_report([suite], tmp_path / "b")
    page = (tmp_path / "b" / "report.html").read_text()
    assert "Not compared, for want of test scores beside the runs." in page
    assert "where marked *, for want of test scores, the ends of the seeds’ own intervals averaged" in page
    entry = found.sections[0].streams[0].groups[0]
    finals = [run.metrics["final_auc"] for run in entry.runs]
    ends = (float(np.mean([getattr(one, end) for one in finals])) for end in ("low", "high"))
    assert intervals(tmp_path / "b")[0] == told(*ends, " *")
    assert not [group.row for group in found.sections[0].streams[0].groups if group.row]


def test_one_seed_has_its_own_interval(suite: Path, tmp_path: Path) -> None:
    (run, *_) = sorted(suite.glob("runs/*/*"))
    final = retune.Result.read(run).metrics["final_auc"]
    assert final.low is not None
    assert final.high is not None
    write_report([run], tmp_path / "a")
    assert intervals(tmp_path / "a")[0] == told(final.low, final.high)

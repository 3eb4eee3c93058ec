"""Suites on a Dask cluster of two workers on this machine, one of them killed half-way."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import made_processes
import made_suites as made
import pytest
from rich.console import Console

from retune.errors import UserError
from retune.results.result import Result
from retune.suite.execute import Outcome, execute

dask = pytest.importorskip("dask")
distributed = pytest.importorskip("distributed")


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A scheduler on loopback and two workers, each a process; how a cluster starts them is its own affair."""
    made_processes.ready()
    options = {"n_workers": 2, "threads_per_worker": 1, "processes": True, "dashboard_address": None}
    with (
        dask.config.set({"distributed.worker.multiprocessing-method": "forkserver"}),
        distributed.LocalCluster(host="127.0.0.1", silence_logs="CRITICAL", **options) as cluster,
    ):
        yield cluster.scheduler_address


def on_cluster(out: Path, strategies: list[str], address: str, **more: object) -> Outcome:
    plans = made.planned(out, strategies, **more)
    return execute(plans, out, Console(file=io.StringIO()), dask=address)


@pytest.mark.slow
def test_one_worker_killed_half_way_gives_the_same_results(address: str, tmp_path: Path) -> None:
    strategies = [made.dies_once(tmp_path), "ridge"]
    outcome = on_cluster(tmp_path / "cluster", strategies, address)
    assert (tmp_path / "killed").exists()
    assert not outcome.failures
    assert [(run.strategy, run.seed) for run in outcome.finished] == [
        ("ridge", 0), ("ridge", 1), ("dies", 0), ("dies", 1),
    ]  # fmt: skip
    # The first experience of the killed run was not learnt again.
    assert sorted((tmp_path / "log").read_text().split()) == ["0:0", "0:7", "0:7", "1:0", "1:7"]
    assert made.scores(tmp_path / "cluster") == made.undisturbed(tmp_path / "here", strategies)
    for run in outcome.finished:
        here = tmp_path / "here" / run.folder.relative_to(tmp_path / "cluster")
        assert run.result.auc_matrix == Result.read(here).auc_matrix


@pytest.mark.slow
def test_a_bad_plugin_is_named_and_stops_nothing_else(address: str, tmp_path: Path) -> None:
    strategies = [
        made.write(tmp_path, "raises", fit="raise ValueError('boom')"),
        made.write(tmp_path, "sleeps", fit="\n        while True: time.sleep(0.01)"),
        "zero-shot",
    ]
    outcome = on_cluster(tmp_path / "out", strategies, address, seeds=1, time_limit=2)
    assert [run.strategy for run in outcome.finished] == ["zero-shot"]
    reasons = {failure.run.strategy: failure.reason for failure in outcome.failures}
    assert "strategy raises failed in fit" in reasons["raises"]
    assert "time limit of 2 s" in reasons["sleeps"]


def test_no_scheduler_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("retune.suite.cluster.PATIENCE", 1.0)
    with pytest.raises(UserError, match="there is no Dask scheduler"):
        on_cluster(tmp_path / "out", ["zero-shot"], "tcp://127.0.0.1:1")

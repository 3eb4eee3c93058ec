"""Methods run again: the same by name, never anything that an entry brings."""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from made_boards import SHELF, TRACKS, copied, edit, entry, put, runs_of

from retune.leaderboard.board import Board
from retune.leaderboard.rerun import rerun
from retune.leaderboard.submit import Said, submit
from retune.leaderboard.verify import Verdict, Verifier
from retune.runner.run import prepare
from retune.runner.spec import Spec


@pytest.fixture(scope="module")
def verifier(small_board: Path) -> Verifier:
    """Reads the data once."""
    return Verifier(Board(small_board))


@pytest.fixture
def folder(single: Path) -> Path:
    """An entry of one seed."""
    return single / "submissions" / "small-v1" / "valid-1"


@pytest.fixture(scope="module")
def ran() -> dict[str, Any]:
    """Results by what was asked for."""
    return {}


@pytest.fixture
def once(ran: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """What was asked for before is not run once more: it would give the same."""

    def remembered(spec: Spec, folder: Path, **options: Any) -> SimpleNamespace:
        ready = prepare(spec, folder, **options)

        def execute() -> Any:
            if str(spec) not in ran:
                ran[str(spec)] = ready.execute()
            return ran[str(spec)]

        return SimpleNamespace(plan=ready.plan, execute=execute)

    monkeypatch.setattr("retune.leaderboard.rerun.prepare", remembered)


def again(verifier: Verifier, folder: Path, **options: Any) -> Verdict:
    verdict = verifier.verify(folder)
    assert verdict.tier == "recomputed", verdict.reason
    return rerun(verifier, folder, verdict, **options)


def test_every_seed_is_run_again_to_the_bit(small_board: Path, tmp_path: Path, verify) -> None:
    board = copied(small_board, tmp_path / "board")
    code, told, _ = verify(board, "small-v1/valid-1", "--rerun")
    assert (code, told[0]["tier"], told[0]["reason"]) == (0, "re-run", "")
    # Numbers are published to seven decimals.
    assert told[0]["rerun_difference"] <= 1e-7
    kept = (board / "verified" / "small-v1" / "valid-1.json").read_text()
    assert '"tier": "re-run"' in kept
    put(board / "submissions" / "small-v1" / "valid-1", "method.note", "changed")
    code, told, _ = verify(board, "small-v1/valid-1", "--no-record")
    assert (code, told[0]["outcome"], told[0]["tier"]) == (2, "refused", None)


def test_bounds_random_orders_and_avalanche_s_are_run_again(
    more_runs: Path, tmp_path: Path, verifier: Verifier
) -> None:
    (tmp_path / "tracks.toml").write_text(TRACKS)
    runs_of(tmp_path / "runs", "ridge", seeds=1, order="random")
    runs_of(tmp_path / "runs", "avalanche:Replay", seeds=1)
    submitted = submit([tmp_path / "runs", more_runs / "joint-dataset-1"], board=tmp_path)
    verdicts = {one.entry.strategy.name: again(verifier, one.folder) for one in submitted}
    assert {name: (v.tier, v.reason) for name, v in verdicts.items()} == dict.fromkeys(
        ("ridge", "avalanche:Replay", "joint"), ("re-run", "")
    )


def test_settings_that_a_search_chose_are_those_of_each_run(tmp_path: Path, verifier: Verifier) -> None:
    (tmp_path / "tracks.toml").write_text(TRACKS)
    spec = Spec(
        strategy="linear-probe",
        scenario="class-incremental",
        steps=2,
        settings={"data.images": 300, "data.size": 64},
        search={"lr": ["0.0001", "0.03"]},
        replicates=10,
        device="cpu",
    )
    prepare(spec, tmp_path / "runs" / "one", shared=SHELF).execute()
    (one,) = submit([tmp_path / "runs"], Said("searched"), board=tmp_path)
    assert one.entry.strategy.searched
    assert one.entry.strategy.settings == {}
    assert one.entry.runs[0].settings is not None
    assert again(verifier, one.folder).tier == "re-run"


@pytest.mark.usefixtures("once")
@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        ("strategy.settings.lr", 0.5, "run again with seed 1, an AUC differs by 0."),
        ("strategy.sees_everything", True, "strategy.sees_everything is False, the entry says True"),
        ("strategy.keeps_samples", True, "strategy.keeps_samples is False, the entry says True"),
        ("backbone.contaminated", "possibly", "backbone.contaminated is no, the entry says possibly"),
        ("backbone.synthetic", False, "backbone.synthetic is True, the entry says False"),
        ("backbone.looked_up", True, "backbone.looked_up is False, the entry says True"),
        ("data.repeated_images", 7, "data.repeated_images is 0, the entry says 7"),
        ("runs.0.cost.trainable_parameters", 5, "cost.trainable_parameters is"),
        ("runs.0.cost.total_parameters", 5, "cost.total_parameters is"),
        ("runs.0.cost.stored_bytes", 5, "cost.stored_bytes is 0, the entry says 5"),
        ("runs.0.cost.stored_images", 5, "cost.stored_images is 0, the entry says 5"),
    ],
)
def test_what_running_it_again_belies_is_false(
    path: str, value: Any, reason: str, folder: Path, verifier: Verifier
) -> None:
    put(folder, path, value)
    verdict = again(verifier, folder)
    assert (verdict.outcome, verdict.tier) == ("false", None)
    assert verdict.record is not None
    assert (verdict.record.tier, verdict.record.fault) == ("re-run", verdict.reason)
    assert reason in verdict.reason


def test_differences_as_between_machines_are_told_and_allowed(folder: Path, verifier: Verifier) -> None:
    put(folder, "strategy.settings.lr", 0.0011)  # Instead of .001: moves labels up and down.
    verdict = again(verifier, folder)
    assert verdict.tier == "re-run"
    assert verdict.record is not None
    assert verdict.record.rerun_difference is not None
    assert 0.005 < verdict.record.rerun_difference < 0.02


@pytest.mark.usefixtures("once")
def test_means_over_labels_may_differ_by_less(
    folder: Path, verifier: Verifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("retune.leaderboard.rerun.TOLERANCE", 1.0)
    put(folder, "strategy.settings.lr", 0.5)
    verdict = again(verifier, folder)
    assert (verdict.outcome, verdict.tier) == ("false", None)
    assert "run again with seed 1, final_auc differs by 0." in verdict.reason


def test_scores_of_another_run_are_found(small_runs: Path, tmp_path: Path, verifier: Verifier) -> None:
    """Scores and numbers that fit each other, of a strategy that the entry does not name."""
    (tmp_path / "tracks.toml").write_text(TRACKS)
    runs_of(tmp_path / "runs", "ridge", seeds=1)
    (one,) = submit([tmp_path / "runs"], board=tmp_path)
    told = entry(submit([small_runs], board=tmp_path)[0].folder)
    edit(one.folder, lambda e: e.update(strategy=told["strategy"]))
    verdict = again(verifier, one.folder)
    assert verdict.outcome == "false"
    assert "an AUC differs by 0." in verdict.reason


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        ("strategy.name", "not-there", "no strategy not-there of retune is installed"),
        ("strategy.origin", "someone-else", "no strategy linear-probe of someone-else is installed"),
        ("strategy.origin", "file sha256:0123456789abcdef", "its strategy is a file of the submitter's"),
        ("strategy.version", "99", "the version of the strategy here is another"),
        ("backbone.fingerprint", "0" * 64, "the backbone here is another"),
        ("backbone.name", "nobody-clip", "backbone nobody-clip is not a named one"),
        ("prompts.name", "nobody", "prompt bank nobody is not a packaged one"),
        ("prompts.fingerprint", "0" * 64, "the prompt bank here is another"),
        ("strategy.settings", {"no_such": 1}, "unknown setting 'no_such'"),
        ("strategy.settings", {"lr": "fast"}, "is not number"),
        ("strategy.settings", {"data.images": 10}, "unknown setting"),
        ("strategy.settings", {"strategy.lr": 0.5}, "unknown setting"),
    ],
)
def test_what_cannot_be_run_again_stays_recomputed(
    path: str, value: Any, reason: str, folder: Path, verifier: Verifier
) -> None:
    put(folder, path, value)
    verdict = again(verifier, folder)
    assert (verdict.outcome, verdict.tier) == ("holds", "recomputed")
    assert verdict.reason.startswith("not run again: ")
    assert reason in verdict.reason
    assert "\n" not in verdict.reason


EVIL = "import pathlib\npathlib.Path({canary!r}).write_text('run')\n"
PLACES: dict[str, Callable[[Path], tuple[str, str]]] = {
    "a strategy by its path": lambda at: ("strategy.name", str(at / "evil.py")),
    "a strategy in this folder": lambda at: ("strategy.name", "evil.py"),
    "a strategy by path and class": lambda at: ("strategy.name", f"{at / 'evil.py'}:Evil"),
    "a strategy of this folder": lambda at: ("strategy.name", "./evil.py/preset"),
    "a strategy by its module": lambda at: ("strategy.name", "evil"),
    "a module as the origin": lambda at: ("strategy.origin", "evil"),
    "a path as the origin": lambda at: ("strategy.origin", str(at / "evil.py")),
    "one of avalanche's that is a path": lambda at: ("strategy.name", f"avalanche:{at}/evil.py"),
    "one of avalanche's that it has not": lambda at: ("strategy.name", "avalanche:os.system"),
    "a bank by its path": lambda at: ("prompts.name", str(at / "bank.jsonl")),
    "a bank in this folder": lambda at: ("prompts.name", "bank.jsonl"),
    "a bank above": lambda at: ("prompts.name", "../../language-model"),
    "a bank at an address": lambda at: ("prompts.name", "https://example.org/bank.jsonl"),
    "a backbone by its path": lambda at: ("backbone.name", str(at / "evil.py")),
    "a backbone in this folder": lambda at: ("backbone.name", "evil.py"),
    "a backbone of a folder": lambda at: ("backbone.name", f"local-dir:{at}"),
    "a backbone of a hub": lambda at: ("backbone.name", "hf-hub:someone/evil"),
    "a backbone of open_clip": lambda at: ("backbone.name", "open_clip:ViT-B-32/openai"),
    "a backbone of a file": lambda at: ("backbone.name", f"features:{at}/evil.npz"),
    "a pair of backbones": lambda at: ("backbone.name", "pair:hf-hub:someone/evil+timm:evil"),
    "a backbone at an address": lambda at: ("backbone.name", "https://example.org/model"),
}


@pytest.mark.parametrize("place", PLACES)
def test_nothing_is_loaded_from_where_an_entry_says(
    place: str, folder: Path, tmp_path: Path, verifier: Verifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, canary = tmp_path / "here", tmp_path / "canary"
    here.mkdir()
    for name in ("evil.py", "sitecustomize.py"):
        (here / name).write_text(EVIL.format(canary=str(canary)))
    (here / "bank.jsonl").write_text("not a bank")
    (here / "config.json").write_text("{}")
    monkeypatch.chdir(here)
    monkeypatch.syspath_prepend(str(here))
    asked: list[Any] = []
    monkeypatch.setattr(socket.socket, "connect", lambda self, address: asked.append(address))
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, *rest, **more: asked.append(host) or [])
    path, value = PLACES[place](here)
    put(folder, path, value)
    verdict = again(verifier, folder)
    assert (verdict.outcome, verdict.tier) == ("holds", "recomputed")
    assert verdict.reason.startswith("not run again: ")
    assert not canary.exists()
    assert asked == []
    assert "evil" not in sys.modules


def test_an_endless_strategy_ends_with_the_time_limit(folder: Path, verifier: Verifier) -> None:
    put(folder, "strategy.settings.epochs", 10**9)
    begun = time.monotonic()
    verdict = again(verifier, folder, time_limit=0.5)
    assert verdict.tier == "recomputed"
    assert "not run again: strategy linear-probe" in verdict.reason
    # A guard against hanging, not a measurement.
    assert time.monotonic() - begun < 120


def test_only_what_was_recomputed_is_run_again(folder: Path, verifier: Verifier) -> None:
    for verdict in (Verdict("a/b", "false", "why"), Verdict("a/b", "refused", "why")):
        assert rerun(verifier, folder, verdict) is verdict


def test_an_entry_that_changes_meanwhile_is_refused(folder: Path, verifier: Verifier) -> None:
    verdict = verifier.verify(folder)
    put(folder, "strategy.settings.lr", 0.5)
    changed = rerun(verifier, folder, verdict)
    assert (changed.outcome, changed.record) == ("refused", None)
    assert changed.reason == "small-v1/valid-1: changed while it was verified"


def test_threads_are_as_they_were(folder: Path, verifier: Verifier) -> None:
    import torch

    before = torch.get_num_threads()
    put(folder, "runs.0.threads", 4096)
    assert again(verifier, folder).tier == "re-run"
    assert torch.get_num_threads() == before

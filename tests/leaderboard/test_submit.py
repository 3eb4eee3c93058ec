"""From runs to an entry: what is in it, what is not, and when none is written."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_boards import ENTRY, SCORES, SHELF, TRACKS, entry, packed, runs_of, tensors
from made_runs import change_json, change_scores
from safetensors.numpy import load_file
from sklearn.metrics import roc_auc_score

from retune.cli.main import main
from retune.data.source import DataSource
from retune.errors import UserError
from retune.leaderboard.submit import Said, submit
from retune.runner.run import prepare
from retune.runner.spec import Spec
from retune.scaffold import new_strategy


@pytest.fixture
def board(tmp_path: Path) -> Path:
    (tmp_path / "board").mkdir()
    (tmp_path / "board" / "tracks.toml").write_text(TRACKS)
    return tmp_path / "board"


def say(board: Path, runs: Path, *words: str) -> int:
    return main(["submit", str(runs), "--board", str(board), *words])


def files(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_its_numbers_are_those_of_scikit_learn_and_of_the_runs(small_runs: Path, small_board: Path) -> None:
    told = entry(small_board / "submissions" / "small-v1" / "valid-1")
    assert [run["seed"] for run in told["runs"]] == [0, 1, 2]
    finals = []
    for run in told["runs"]:
        folder = small_runs / f"linear-probe-dataset-{run['seed']}"
        arrays, result = (
            load_file(folder / "scores.safetensors"),
            json.loads((folder / "result.json").read_text()),
        )
        truth = arrays["targets"]
        for i, moment in enumerate(arrays["scores"]):
            for c in range(truth.shape[1]):
                known = ~np.isnan(truth[:, c])
                wanted = roc_auc_score(truth[known, c], moment[known, c])
                assert run["auc_matrix"][i][c] == pytest.approx(wanted, abs=1e-6)
        np.testing.assert_allclose(run["auc_matrix"], result["auc_matrix"], atol=1e-6)
        for name in ("final_auc", "average_auc", "forgetting", "backward_transfer", "forward_transfer"):
            assert run["values"][name] == pytest.approx(result["metrics"][name]["value"], abs=1e-6)
        assert run["values"]["final_ap"] == pytest.approx(result["metrics"]["final_ap"]["value"], abs=1e-6)
        assert run["values"]["calibration_error"] == pytest.approx(
            result["metrics"]["calibration_error"]["value"], abs=1e-6
        )
        assert run["cost"]["trainable_parameters"] == result["cost"]["trainable_parameters"]
        finals.append(np.mean(run["auc_matrix"][-1]))
    over = told["metrics"]["final_auc"]
    assert (over["mean"], over["sd"]) == pytest.approx((np.mean(finals), np.std(finals, ddof=1)), abs=1e-6)
    assert over["n"] == 3


def test_its_interval_is_a_bootstrap_over_patients(small_runs: Path, small_board: Path) -> None:
    told = entry(small_board / "submissions" / "small-v1" / "valid-1")["metrics"]["final_auc"]
    folders = sorted(small_runs.iterdir())
    arrays = [load_file(folder / "scores.safetensors") for folder in folders]
    truth, patients = arrays[0]["targets"], arrays[0]["patients"]
    rows = [np.flatnonzero(patients == p) for p in np.unique(patients)]
    rng, finals = np.random.default_rng(1), []
    for _ in range(150):
        drawn = np.concatenate([rows[k] for k in rng.integers(0, len(rows), len(rows))])
        aucs = []
        for one in arrays:
            for c in range(truth.shape[1]):
                y, s = truth[drawn, c], one["scores"][-1][drawn, c]
                y, s = y[~np.isnan(y)], s[~np.isnan(y)]
                if 0 < y.sum() < len(y):
                    more = s[y == 1][:, None] - s[y == 0]
                    aucs.append(((more > 0) + (more == 0) / 2).mean())
        finals.append(np.mean(aucs))
    low, high = np.quantile(finals, [0.025, 0.975])
    # 150 resamples of one's own against 1,000.
    assert (told["low"], told["high"]) == pytest.approx((low, high), abs=0.02)
    assert told["low"] < told["mean"] < told["high"]


def test_sixteen_bits_keep_the_scores(small_runs: Path, small_board: Path) -> None:
    header, body = tensors(small_board / "submissions" / "small-v1" / "valid-1")
    assert header["scores"]["dtype"] == "U16"
    parts = {name: body[slice(*told["data_offsets"])] for name, told in header.items()}
    steps = np.frombuffer(parts["scores"], np.uint16).reshape(header["scores"]["shape"]).astype(float)
    low, high = np.moveaxis(
        np.frombuffer(parts["range"], np.float32).reshape(header["range"]["shape"]), -1, 0
    )
    mine = low[..., None] + steps / 65535 * (high - low)[..., None]
    salt = entry(small_board / "submissions" / "small-v1" / "valid-1")["salt"]
    for k, folder in enumerate(sorted(small_runs.iterdir())):
        run = load_file(folder / "scores.safetensors")
        names = [hashlib.sha256(salt.encode() + b"\0" + row.tobytes()).digest()[:16] for row in run["items"]]
        order = np.argsort(np.array(names, dtype="S16"))
        assert b"".join(sorted(names)) == parts["items"]
        exact = run["scores"][:, order].transpose(2, 0, 1)
        assert np.abs(mine[k] - exact).max() <= 1e-4 * (exact.max() - exact.min())


def test_scores_from_which_the_numbers_do_not_follow_are_refused(
    small_runs: Path, board: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, other = (small_runs / f"linear-probe-dataset-{seed}" for seed in (0, 1))
    fine, mixed = (Path(shutil.copytree(run, tmp_path / name)) for name in ("fine", "mixed"))
    # Doubles that differ by less than floats near 1 can.
    change_scores(fine, lambda arrays: arrays | {"scores": 1 + 1e-10 * arrays["scores"].astype(np.float64)})
    shutil.copy(other / "scores.safetensors", mixed)
    for folder, told in (
        (fine, "do not follow from its scores in the 32 bits that an entry has"),
        (mixed, "holds other scores than the result beside it follows from"),
    ):
        assert say(board, folder) == 2
        line = capsys.readouterr().err.splitlines()[-1]
        assert told in line
        assert str(folder) in line
    assert not (board / "submissions").exists()


def test_it_holds_nothing_of_images_patients_or_places(small_runs: Path, small_board: Path) -> None:
    folder = small_board / "submissions" / "small-v1" / "valid-1"
    content = b"".join(files(folder).values())
    dataset = SHELF.dataset(DataSource.make("phantom", None, {"images": 300, "size": 64}))
    for names in (dataset.image_id, dataset.patient_id):
        assert not [name for name in map(str, names) if len(name) > 4 and name.encode() in content]
    run = load_file(next(small_runs.iterdir()) / "scores.safetensors")
    targets = np.nan_to_num(run["targets"])
    columns = [values.tobytes()[:64] for name, values in run.items() if name.startswith("of.")]
    assert len(columns) == 4
    for secret in (
        run["items"][0].tobytes(),
        targets.tobytes()[:64],
        run["patients"].tobytes()[:64],
        *columns,
    ):
        assert secret not in content
    result = json.loads((next(small_runs.iterdir()) / "result.json").read_text())
    for told in (str(small_runs), str(Path.home()), os.uname().nodename, result["run"]["created"]):
        assert told.encode() not in content
    assert [file.name for file in sorted(folder.iterdir())] == [ENTRY, SCORES]


def test_digests_of_two_entries_cannot_be_matched(more_runs: Path, board: Path) -> None:
    one, other = submit([more_runs], board=board)
    (head, body), (head2, body2) = tensors(one.folder), tensors(other.folder)
    items = [
        {b[k : k + 16] for k in range(*h["items"]["data_offsets"], 16)}
        for h, b in ((head, body), (head2, body2))
    ]
    assert len(items[0]) == len(items[1]) > 50
    assert not items[0] & items[1]


def test_once_more_is_the_same_to_the_byte_and_said(
    small_runs: Path, board: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert say(board, small_runs) == 0
    assert "stood there" not in capsys.readouterr().out
    before = files(board)
    # Runs that lie elsewhere and are named in another order are the same runs.
    moved = Path(shutil.copytree(small_runs, tmp_path / "moved"))
    assert say(board, moved) == 0
    assert "it stood there already" in capsys.readouterr().out
    assert files(board) == before
    assert {file.stat().st_mode & 0o777 for file in board.rglob("*.json")} == {0o644}


def test_another_of_that_name_is_refused_and_a_new_version_is_not(
    small_runs: Path, board: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert say(board, small_runs, "--method", "Mine") == 0
    before = files(board)
    for words in (
        ["--method", "mine", "--note", "better"],
        ["--method", "MINE"],
        ["--method", "Mine", "--code", "https://a.bc/"],
    ):
        assert say(board, small_runs, *words) == 2
        line = capsys.readouterr().err.splitlines()[-1]
        assert "another entry of that name and version stands there" in line
        assert files(board) == before
    assert say(board, small_runs, "--method", "Mine", "--version", "1.1", "--note", "better") == 0
    assert (board / "submissions" / "small-v1" / "mine-1.1").is_dir()


def test_what_the_submitter_says_lands_in_the_entry(small_runs: Path, board: Path) -> None:
    words = [
        "--method",
        "Mine++ (v2)",
        "--author",
        "Å. Müller",
        "--author",
        "李 明",
        "--paper",
        "https://arxiv.org/abs/1",
    ]
    words += [
        "--code",
        "http://example.org:8080/x?y=1#z",
        "--note",
        "α, {{ braces }} and onerror=alert(1)",
        "--json",
    ]
    assert say(board, small_runs, *words) == 0
    told = entry(board / "submissions" / "small-v1" / "mine-plus-plus-v2-1")["method"]
    assert told == {
        "name": "Mine++ (v2)", "version": "1", "authors": ["Å. Müller", "李 明"], "paper": "https://arxiv.org/abs/1",
        "code": "http://example.org:8080/x?y=1#z", "note": "α, {{ braces }} and onerror=alert(1)",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--paper", "javascript:alert(1)"], "method.paper: is no web address"),
        (
            ["--code", "https://me:secret@example.org/"],
            "method.code: is no web address to publish: it holds a user",
        ),
        (["--paper", "example.org"], "method.paper: is no web address"),
        (["--note", "<b>best</b>"], "method.note: holds '<'"),
        (["--note", "x" * 301], "method.note"),
        (["--note", "two\nlines"], "method.note: holds the unprintable character U+000A"),
        (["--author", "\u202eA"], "method.authors.0: holds the unprintable character U+202E"),
        (["--method", "../../x"], "method.name"),
        (["--method", "a" + "+" * 59], "folder's name"),
        (["--version", "latest"], "method.version"),
        (["--version", "../1"], "method.version"),
    ],
)
def test_what_cannot_be_published_is_refused_in_a_line(
    words: list[str], message: str, small_runs: Path, board: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert say(board, small_runs, *words) == 2
    told = [line for line in capsys.readouterr().err.splitlines() if not line.endswith(" ...")]
    assert len(told) == 1
    assert message in told[0]
    assert not (board / "submissions").exists()


def test_several_methods_at_once(
    more_runs: Path, small_runs: Path, board: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["submit", str(more_runs), str(small_runs), "--board", str(board), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [Path(one["folder"]).name for one in told] == ["joint-1", "linear-probe-1", "ridge-1"]
    assert [len(one["entry"]["runs"]) for one in told] == [2, 3, 2]
    joint = entry(board / "submissions" / "small-v1" / "joint-1")
    assert joint["strategy"]["sees_everything"]
    for option in ("--method", "--paper", "--code"):
        assert say(board, more_runs, option, "https://example.org/") == 2
        assert "these runs are of 2 methods" in capsys.readouterr().err


def test_two_methods_of_one_name_are_told_apart_first(
    small_runs: Path, board: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    both = Path(shutil.copytree(small_runs, tmp_path / "both"))
    runs_of(both / "other", "linear-probe", seeds=1, lr=0.5)
    assert say(board, both) == 2
    assert (
        "two methods with different settings or code would both be called linear-probe-1"
        in capsys.readouterr().err
    )
    assert not (board / "submissions").exists()


def test_a_preset_s_runs_have_a_name_of_their_own(small_runs: Path, board: Path, tmp_path: Path) -> None:
    both = Path(shutil.copytree(small_runs / "linear-probe-dataset-0", tmp_path / "both" / "plain"))
    runs_of(both.parent, "linear-probe/trunk", seeds=1)
    assert say(board, both.parent) == 0
    folders = sorted((board / "submissions" / "small-v1").iterdir())
    assert [folder.name for folder in folders] == ["linear-probe-1", "linear-probe-trunk-1"]
    assert entry(folders[1])["method"]["name"] == "linear-probe-trunk"
    assert entry(folders[1])["strategy"]["name"] == "linear-probe"
    change_json(
        both / "result.json", lambda d: d["strategy"].update(name="avalanche:EWC", preset="trunk", origin="x")
    )
    (one,) = submit([both], board=board)
    assert one.entry.method.name == "avalanche-ewc-trunk"


def test_a_seed_twice(
    small_runs: Path, board: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    twice = Path(shutil.copytree(small_runs, tmp_path / "twice"))
    shutil.copytree(twice / "linear-probe-dataset-1", twice / "again")
    assert say(board, twice) == 2
    assert "two runs have seed 1: " in capsys.readouterr().err
    assert not (board / "submissions").exists()


def _changed(runs: Path, into: Path, change: Any) -> Path:
    """Copies of runs whose results are changed."""
    copied = Path(shutil.copytree(runs, into))
    for file in copied.rglob("result.json"):
        change_json(file, change)
    return copied


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d["dataset"]["settings"].update(images=400), "data.images is 400, the track's is 300"),
        (
            lambda d: d["dataset"]["settings"].update(label_noise=0.5),
            "data.label_noise is 0.5, the track's is 0.02",
        ),
        (lambda d: d["scenario"]["settings"].update(steps=7), "scenario.steps is 7, the track's is"),
        (
            lambda d: d["scenario"].update(name="ceccon-nic-7"),
            "there is no track for ceccon-nic-7 on phantom",
        ),
        (lambda d: d["dataset"].update(name="csv"), "there is no track for class-incremental on csv"),
    ],
)
def test_runs_on_no_track_say_which_setting_keeps_them_out(
    change: Any,
    message: str,
    small_runs: Path,
    board: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert say(board, _changed(small_runs, tmp_path / "changed", change)) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert message in line
    assert line.startswith("error: run ")


def test_a_run_of_an_older_version(
    small_runs: Path, board: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    older = Path(shutil.copytree(small_runs, tmp_path / "older"))
    file = older / "linear-probe-dataset-1" / "scores.safetensors"
    change_scores(file.parent, lambda arrays: {k: v for k, v in arrays.items() if k != "items"})
    assert say(board, older) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert "holds no items: it was written by an older version" in line
    assert str(file) in line
    file.write_bytes(packed(b"{", b""))
    assert say(board, older) == 2
    assert "is not as it was written" in capsys.readouterr().err.splitlines()[-1]


def test_other_test_images(small_runs: Path, board: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(small_runs, tmp_path / "other"))
    change_scores(other / "linear-probe-dataset-1", lambda arrays: arrays["items"][0].fill(0))
    with pytest.raises(UserError, match="has other test images than the other runs"):
        submit([other], board=board)


@pytest.mark.parametrize("failing", ["entry.json", "the folder's name"])
def test_an_interrupted_write_leaves_nothing_half(
    failing: str, small_runs: Path, board: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace, rename = os.replace, Path.rename

    def interrupted(source: Any, target: Any) -> None:
        if str(target).endswith(failing):
            raise KeyboardInterrupt
        replace(source, target)

    def never(path: Path, target: Any) -> Path:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", interrupted)
        if failing != "entry.json":
            patch.setattr(Path, "rename", never)
        with pytest.raises(KeyboardInterrupt):
            submit([small_runs], board=board)
    assert files(board) == {"tracks.toml": TRACKS.encode()}
    assert Path.rename is rename
    assert not submit([small_runs], board=board)[0].existed


def test_names_of_folders_stay_at_home(board: Path, tmp_path: Path, small_runs: Path) -> None:
    home = "/home/someone/private"
    for name, wanted in (
        (f"local-dir:{home}/model", "local-dir:model"),
        (f"features:{home}/mine.npz", "features:mine.npz"),
        (f"pair:local-dir:{home}/a+local-dir:{home}/b", "pair:local-dir:a+local-dir:b"),
        ("hf-hub:org/name", "hf-hub:org/name"),
    ):
        runs = _changed(
            small_runs,
            tmp_path / wanted.replace(":", "-").replace("/", "-"),
            lambda d, name=name: (
                d["backbone"].update(name=name),
                d["prompts"].update(name=f"{home}/bank.jsonl"),
            ),
        )
        (one,) = submit([runs], Said(wanted.replace(":", " ").replace("/", " ")), board=board)
        told = entry(one.folder)
        assert (told["backbone"]["name"], told["prompts"]["name"]) == (wanted, "bank.jsonl")
        assert home.encode() not in (one.folder / ENTRY).read_bytes()


def test_a_run_of_a_file_is_called_by_its_name(board: Path, tmp_path: Path) -> None:
    file = new_strategy("my-own", tmp_path / "my_own.py")
    spec = Spec(
        strategy=str(file),
        scenario="class-incremental",
        steps=2,
        settings={"data.images": 300, "data.size": 64},
        replicates=10,
        device="cpu",
    )
    prepare(spec, tmp_path / "runs" / "one", shared=SHELF).execute()
    (one,) = submit([tmp_path / "runs"], board=board)
    assert one.entry.method.name == "my-own"
    assert str(tmp_path).encode() not in (one.folder / ENTRY).read_bytes()
    assert one.entry.strategy.origin.startswith("file sha256:")


def test_no_seed_is_left_out_by_accident(
    small_runs: Path, board: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = Path(shutil.copytree(small_runs, tmp_path / "runs"))
    (runs / "linear-probe-dataset-1" / "result.json").unlink()
    assert say(board, runs) == 2
    told = capsys.readouterr().err
    assert "linear-probe-dataset-1: 1 run here not finished: no seed is left out by accident" in told
    assert not (board / "submissions").exists()
    # One by one they are meant.
    assert say(board, runs / "linear-probe-dataset-0", "--method", "alone") == 0
    assert "1 seed only; 3 or more tell how results vary" in capsys.readouterr().out
    assert say(board, small_runs, "--method", "together") == 0
    assert "seeds only" not in capsys.readouterr().out


def test_another_method_s_paper_is_not_claimed(more_runs: Path, board: Path) -> None:
    ridge = more_runs / "ridge-dataset-0"
    papers = [submit([ridge], said, board=board)[0].entry.method.paper for said in (None, Said("mine"))]
    assert papers == ["https://arxiv.org/abs/2205.14922", None]

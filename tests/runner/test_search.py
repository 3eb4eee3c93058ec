"""Settings are chosen on held-out patients of the first experience, and on nothing else."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_features import SETTINGS, dataset, features_file, vectors
from safetensors.numpy import load_file
from sklearn.metrics import roc_auc_score

import retune
from retune.cli.main import main
from retune.errors import BadSetting, StrategyError, UnknownName, UserError
from retune.settings import parse_search

PICKS = """
import torch
from dataclasses import dataclass
from pathlib import Path
from retune import Strategy

LOG = Path(__file__).with_name("log")

@dataclass
class Picks(Strategy):
    \"\"\"Scores every label by its own feature shifted by some columns.\"\"\"
    name = "picks"
    needs = frozenset({"features"})
    shift: int = 3
    twist: float = 1.0
    def fit(self, experience):
        with LOG.open("a") as log:
            seen = [int(p) for p in experience.patients]
            print([self.shift, list(experience.observed), len(experience), seen], file=log)
        if self.shift == 13:
            raise ValueError("unlucky")
        if Path(__file__).with_name("stop").exists() and LOG.read_text().count("\\n") > 3:
            raise ValueError("stopped")
    def score(self, images):
        return images.features.roll(self.shift, 1) * self.twist
"""


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> str:
    return features_file(tmp_path_factory.mktemp("features"))


@pytest.fixture
def picks(tmp_path: Path) -> str:
    file = tmp_path / "picks.py"
    file.write_text(PICKS)
    return str(file)


def run(out: Path, strategy: str, backbone: str, **options: Any) -> retune.Result:
    settings = {**SETTINGS, **options.pop("settings", {})}
    return retune.run(
        strategy=strategy, backbone=backbone, settings=settings, steps=2, replicates=20, out=out, **options
    )


def log(folder: Path) -> list[Any]:
    """What was fitted: shift, labels, number of images, patients."""
    return [json.loads(line) for line in (folder / "log").read_text().splitlines()]


def held_out(patients: Any, seed: int) -> Any:
    """Which images judge: those of the patients whose hash falls into the first fifth."""
    digests = [hashlib.sha256(f"search {seed}\0{p}".encode()).digest() for p in patients]
    return np.array([int.from_bytes(d[:8], "big") < 2**64 / 5 for d in digests])


@pytest.mark.parametrize("seed", [0, 3])
def test_the_best_on_held_out_patients_is_chosen(
    tmp_path: Path, picks: str, backbone: str, seed: int
) -> None:
    result = run(tmp_path / "out", picks, backbone, search={"shift": [2, "0", 13, 1]}, seed=seed)
    search = result.strategy.search
    assert search is not None
    assert search.chosen == {"shift": 0}
    assert result.strategy.settings == {"shift": 0, "twist": 1.0}
    table = dataset()
    stream = retune.registry("scenarios").load("class-incremental")(steps=2).stream(table, seed=seed)
    first = stream.experiences[0]
    judge = held_out(table.patient_id[first.rows], seed)
    assert (search.n_train, search.n_valid) == (int((~judge).sum()), int(judge.sum()))
    truth, features = first.targets[judge], vectors(table)[first.rows[judge]]
    both = [c for c in first.observed if len(np.unique(truth[:, c])) == 2]
    assert search.labels == [table.labels[c] for c in both]
    for candidate in search.candidates:
        if candidate.settings == {"shift": 13}:
            assert candidate.auc is None
            assert "failed in fit of experience 1: ValueError: unlucky" in str(candidate.failure)
        else:
            scores = np.roll(features, candidate.settings["shift"], axis=1)
            expected = np.mean([roc_auc_score(truth[:, c], scores[:, c]) for c in both])
            assert candidate.auc == pytest.approx(expected, abs=1e-9)
            assert candidate.failure is None


def test_nothing_but_the_first_experience_is_seen(tmp_path: Path, picks: str, backbone: str) -> None:
    run(tmp_path / "out", picks, backbone, search={"shift": [0, 1]})
    *searched, first, second = log(tmp_path)
    assert [shift for shift, *_ in (*searched, first, second)] == [0, 1, 0, 0]
    assert first[1] != second[1]
    for _, labels, n, patients in searched:
        assert labels == first[1]
        assert n < first[2]
        assert set(patients) < set(first[3])
        # What judges is of other patients, and the rest of the experience.
        assert n + sum(p not in set(patients) for p in first[3]) == first[2]


def test_an_upper_bound_is_searched_on_the_first_experience_too(
    tmp_path: Path, picks: str, backbone: str
) -> None:
    file = Path(picks)
    file.write_text(PICKS.replace('name = "picks"', 'name = "picks"\n    sees_everything = True'))
    result = run(tmp_path / "out", picks, backbone, search={"shift": [0, 1]})
    *searched, joint = log(tmp_path)
    assert [labels for _, labels, *_ in searched] == [list(range(7))] * 2
    assert joint[1:3] == [list(range(14)), result.dataset.n_train]
    assert all(n < result.scenario.experiences[0].n_train for _, _, n, _ in searched)


def test_of_equally_good_ones_the_first_is_chosen(tmp_path: Path, picks: str, backbone: str) -> None:
    search = {"twist": [2.0, 0.5], "shift": [1, 0]}
    result = run(tmp_path / "out", picks, backbone, search=search).strategy.search
    assert result is not None
    tried = [tuple(c.settings.values()) for c in result.candidates]
    assert tried == [(2.0, 1), (2.0, 0), (0.5, 1), (0.5, 0)]
    assert result.chosen == {"twist": 2.0, "shift": 0}


def test_it_is_the_run_with_the_chosen_settings_to_the_bit(tmp_path: Path, backbone: str) -> None:
    plain = {"start": "zeros", "batch_size": 32}
    options = {"search": {"lr": ["1e-5", "3e-2"], "epochs": [2, 5]}, "settings": plain}
    result = run(tmp_path / "searched", "linear-probe", backbone, **options)
    assert result.strategy.search is not None
    chosen = result.strategy.search.chosen
    assert chosen["lr"] == 0.03
    by_hand = run(tmp_path / "by hand", "linear-probe", backbone, settings={**plain, **chosen})
    assert by_hand.strategy.settings == result.strategy.settings
    assert by_hand.strategy.search is None
    files = [load_file(tmp_path / name / "scores.safetensors") for name in ("searched", "by hand")]
    assert files[0]["scores"].tobytes() == files[1]["scores"].tobytes()
    assert by_hand.run.id != result.run.id


def test_what_was_found_is_not_looked_for_again(tmp_path: Path, picks: str, backbone: str) -> None:
    grid = {"search": {"shift": [1, 0]}}
    whole = run(tmp_path / "whole", picks, backbone, **grid)
    (tmp_path / "log").unlink()
    (tmp_path / "stop").touch()
    # Two candidates and the first experience are learnt, and the second is not.
    with pytest.raises(StrategyError, match="fit of experience 2: ValueError: stopped"):
        run(tmp_path / "stopped", picks, backbone, **grid)
    (tmp_path / "stop").unlink()
    continued = run(tmp_path / "stopped", picks, backbone, **grid)
    assert [entry[0] for entry in log(tmp_path)] == [1, 0, 0, 0, 0]
    assert continued.strategy == whole.strategy
    assert continued.auc_matrix == whole.auc_matrix
    assert continued.run.id == whole.run.id


def test_a_search_that_was_done_is_kept_when_the_first_experience_fails(
    tmp_path: Path, picks: str, backbone: str
) -> None:
    file = Path(picks)
    file.write_text(PICKS.replace("> 3", "> 2"))
    (tmp_path / "stop").touch()
    with pytest.raises(StrategyError, match="fit of experience 1: ValueError: stopped"):
        run(tmp_path / "out", picks, backbone, search={"shift": [1, 0]})
    (tmp_path / "stop").unlink()
    result = run(tmp_path / "out", picks, backbone, search={"shift": [1, 0]})
    assert [entry[0] for entry in log(tmp_path)] == [1, 0, 0, 0, 0]
    assert result.strategy.settings["shift"] == 0


def test_a_plan_learns_nothing_and_knows_its_grid(tmp_path: Path, picks: str, backbone: str) -> None:
    def planned(**search: Any) -> str:
        spec = retune.Spec(strategy=picks, backbone=backbone, settings=SETTINGS, search=search)
        return retune.plan(spec).id

    ids = [planned(), planned(shift=[0, 1]), planned(shift=[1, 0]), planned(shift=[0, 1], twist=[1, 2])]
    assert len(set(ids)) == 4
    assert planned(shift=["0", "1"]) == ids[1]
    assert not (tmp_path / "log").exists()


def test_where_every_candidate_fails_the_run_does(tmp_path: Path, picks: str, backbone: str) -> None:
    with pytest.raises(StrategyError, match="no settings searched can be used; strategy picks failed in fit"):
        run(tmp_path / "out", picks, backbone, search={"shift": [13], "twist": [1, 2]})
    assert not (tmp_path / "out").exists()


def test_a_candidate_that_takes_too_long_ends_the_run(tmp_path: Path, picks: str, backbone: str) -> None:
    """Left out of the choice, it would make the result depend on the time limit."""
    file = Path(picks)
    file.write_text(PICKS.replace('raise ValueError("unlucky")', "\n            while True: pass"))
    with pytest.raises(StrategyError, match="fit of experience 1 took longer than the time limit"):
        run(tmp_path / "out", picks, backbone, search={"shift": [0, 13]}, time_limit=0.8)


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (45, "2 are held out, and none is left to learn from"),
        (80, "of which no observed label shows both classes"),
    ],
)
def test_nothing_to_judge_by_is_told_before_anything_is_encoded(
    tmp_path: Path, picks: str, images: int, words: str
) -> None:
    stages: list[str] = []
    with pytest.raises(UserError, match=r"--search: of the first experience's \d+ images \d+ are") as caught:
        retune.run(
            strategy=picks,
            settings={"data.images": images, "data.size": 64},
            steps=14,
            search={"shift": [0, 1]},
            out=tmp_path / "out",
            progress=lambda stage, done, total: stages.append(stage),
        )
    assert words in str(caught.value)
    assert set(stages) == {"reading images"}
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("search", "error", "words"),
    [
        ({"shifts": [1]}, UnknownName, "did you mean shift"),
        ({"shift": [1, "much"]}, BadSetting, "setting shift: 'much' is not whole number"),
        ({"shift": []}, BadSetting, "--search: shift is given no list of values"),
        ({"shift": "12"}, BadSetting, "--search: shift is given no list of values"),
        ({"shift": [1, "1"]}, BadSetting, '{"shift": 1} is given twice'),
        ({"scenario.steps": [1]}, BadSetting, "'scenario.steps' is no setting of the strategy"),
        ({"twist": [1.0]}, BadSetting, "twist is set as well; leave out one of them"),
        ({"shift": range(65)}, BadSetting, "65 combinations are more than 64"),
    ],
)
def test_bad_grids_are_told(
    tmp_path: Path, picks: str, backbone: str, search: Any, error: type[UserError], words: str
) -> None:
    with pytest.raises(error) as caught:
        run(tmp_path / "out", picks, backbone, search=search, settings={"strategy.twist": 2})
    assert words in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_every_candidate_must_be_able_to_run(tmp_path: Path, picks: str, backbone: str) -> None:
    file = Path(picks)
    file.write_text(
        PICKS
        + "    def requires(self):\n        return self.needs | ({'tokens'} if self.shift == 2 else set())\n"
    )
    with pytest.raises(UserError, match=r"strategy .*picks\.py needs tokens"):
        run(tmp_path / "out", picks, backbone, search={"shift": [1, 2]})
    # What is never tried need not be able to: with its own default this one asks for prompts.
    run(tmp_path / "out", "linear-probe", backbone, search={"start": ["zeros"], "epochs": [1, 2]})


def test_grids_are_read_from_text() -> None:
    assert parse_search(["lr=1e-4, 1e-3", "epochs = 5", "lr=1"]) == {"lr": ["1"], "epochs": ["5"]}
    assert parse_search(['sides=[["a", "b"], ["c"]]']) == {"sides": [["a", "b"], ["c"]]}
    for text in ("lr", "=1,2", "lr=", "lr=1,,2", "lr=[1", "lr=1,"):
        with pytest.raises(BadSetting, match="--search"):
            parse_search([text])


def test_the_table_says_what_was_chosen_and_by_what(
    tmp_path: Path, picks: str, backbone: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--set", "data.images=300", "--set", "data.size=64", "--replicates", "20", "--steps", "2"]
    command = ["run", "--strategy", picks, "--backbone", backbone, *words, "--search", "shift=13,1,0"]
    assert main([*command, "--out", str(tmp_path / "one")]) == 0
    told = " ".join(capsys.readouterr().out.split())
    result = retune.Result.read(tmp_path / "one")
    assert "Chosen of 3: shift=0; mean AUC" in told
    assert "images of held-out patients of the first experience, labels No Finding, " in told
    assert "Not chosen, for it failed: shift=13: strategy picks failed in fit of experience 1" in told
    # The same command again; one for another method has no settings of this one's.
    assert "--search shift=13,1,0" in result.run.command
    compare = told.partition("Next, compare: ")[2].partition("Next, ")[0]
    assert compare.startswith("retune run ")
    assert "--search" not in compare
    assert main([*command, "--seeds", "2", "--out", str(tmp_path / "two")]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "Seed 0: Chosen of 3: shift=0; " in told
    assert "Seed 1: Chosen of 3: shift=0; " in told

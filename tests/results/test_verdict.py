"""What a run comes to, in a sentence, and the labels that are no better than chance, as the command prints them."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from made_features import features_file
from made_runs import change_json, made_run, made_scores, made_targets
from made_transfers import made_transfer

import retune
from retune.cli.main import main
from retune.cli.tables import print_run
from retune.results.result import Result
from retune.results.verdict import verdict

STORY = '''
from dataclasses import dataclass

from retune import Strategy


@dataclass
class Story(Strategy):
    """How much of the truth it tells at each moment, from before training on.

    Args:
        told: Numbers with strokes between; none of them: the same of every image.
        liar: A label that it tells the opposite of in the end, if any.
    """

    name = "story"
    needs = frozenset({"features"})
    told: str = "1/1/1/1"
    liar: int = -1

    def setup(self, context):
        self.seen = 0

    def fit(self, experience):
        self.seen += 1

    def score(self, images):
        truth, share = images.features, self.told.split("/")[self.seen]
        if share == "none":
            return 0 * truth
        scores = float(share) * truth + truth.roll(1 + self.seen, 1)
        if self.seen == 3 and self.liar >= 0:
            scores[:, self.liar] = -truth[:, self.liar]
        return scores

    def state_dict(self):
        return {"seen": self.seen}

    def load_state_dict(self, state):
        self.seen = state["seen"]
'''


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("story")
    (folder / "story.py").write_text(STORY)
    small = ["--set", "data.images=300", "--set", "data.size=64", "--replicates", "100", "--steps", "3"]
    return ["run", "--strategy", str(folder / "story.py"), "--backbone", features_file(folder), *small]


def told(capsys: pytest.CaptureFixture[str], words: list[str], out: Path, *more: str) -> tuple[str, Result]:
    assert main([*words, "--out", str(out), *more]) == 0
    return capsys.readouterr().out, retune.Result.read(out)


def sentence(text: str) -> str:
    """The sentence, on one line."""
    (found,) = re.findall(r"^(Final AUC is .*?\.)\n\n", text, flags=re.MULTILINE | re.DOTALL)
    return " ".join(found.split())


def span(low: float | None, high: float | None, sign: int = 1) -> str:
    ends = sorted(sign * float(end or 0) for end in (low, high))
    return "({} to {})".format(*(f"{end:.3f}".replace("0.", ".", 1) for end in ends))


def test_above_and_forgotten(capsys: pytest.CaptureFixture[str], words: list[str], tmp_path: Path) -> None:
    text, result = told(capsys, words, tmp_path / "out", "--set", "told=1/5/5/2")
    gain, lost = result.metrics["gain"], result.metrics["forgetting"]
    value = result.metrics["final_auc"].value - result.metrics["zero_shot_auc"].value
    assert sentence(text).startswith(f"Final AUC is above zero-shot by {value:.3f} ".replace(" 0.", " ."))
    assert f"above zero-shot by {gain.value:.3f} {span(gain.low, gain.high)}; ".replace(
        " 0.", " ."
    ) in sentence(text)
    worst = max(v for v in result.forgetting if v is not None)
    most = f"most of {result.labels[result.forgetting.index(worst)]} ({worst:.3f})".replace("(0.", "(.")
    assert f" was forgotten {span(lost.low, lost.high)}, {most}" in sentence(text)


def test_below_and_below_chance(capsys: pytest.CaptureFixture[str], words: list[str], tmp_path: Path) -> None:
    text, result = told(capsys, words, tmp_path / "out", "--set", "told=1/1/1/0", "--set", "liar=2")
    gain = result.metrics["gain"]
    assert f"below zero-shot by {-gain.value:.3f} {span(gain.low, gain.high, -1)}".replace(
        " 0.", " ."
    ) in text.replace("\n", " ")
    low, high = np.array(result.auc_low[-1], float), np.array(result.auc_high[-1], float)
    below = [name for name, end in zip(result.labels, high, strict=True) if end < 0.5]
    level = [n for n, a, b in zip(result.labels, low, high, strict=True) if a <= 0.5 <= b]
    assert "Cardiomegaly" in below
    assert level
    assert sentence(text).endswith(
        f"; below chance: {', '.join(below)}; not distinguishable from chance: {', '.join(level)}."
    )
    rows = re.findall(r"^chance +(.*?) *$", text, flags=re.MULTILINE)
    assert " ".join(rows).split().count("<.5") == len(below)
    assert " ".join(rows).split().count("~.5") == len(level)
    # Below the label's own column, and explained.
    heads = next(line for line in text.splitlines() if " Card" in line)
    marks = next(line for line in text.splitlines() if line.startswith("chance  "))
    assert marks[heads.index("Card") : heads.index("Card") + 4] == " <.5"
    assert re.search(
        r"^chance: <\.5 .* lies below \.5; ~\.5 .* holds\s\.5", text, flags=re.MULTILINE | re.DOTALL
    )


def test_labels_that_ended_below_zero_shot_are_named_the_deepest_fall_first(
    capsys: pytest.CaptureFixture[str], words: list[str], tmp_path: Path
) -> None:
    text, result = told(capsys, words, tmp_path / "one", "--set", "told=4/4/4/4", "--set", "liar=2")
    assert "; ended below zero-shot: Cardiomegaly; below chance: Cardiomegaly." in sentence(text)
    text, result = told(capsys, words, tmp_path / "all", "--set", "told=9/9/9/0")
    start, end, high = (
        np.array(rows, float) for rows in (result.auc_matrix[0], result.auc_matrix[-1], result.auc_high[-1])
    )
    names = [result.labels[c] for c in np.argsort(end - start) if high[c] < start[c]]
    assert len(names) > 6
    more = len(names) - 4
    assert f"; ended below zero-shot: {', '.join(names[:4])} and {more} others; " in sentence(text)


def test_zero_shot_is_not_compared_with_itself(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    targets, patients = made_targets()
    still = np.repeat(made_scores(targets, 0.0, 2)[:1], 4, axis=0)
    run = made_run(tmp_path, "still", 0, still, targets, patients)
    print_run(run.result, run.folder)
    told = re.findall(r"^Nothing is learnt; (.*?)\.\n\n", capsys.readouterr().out, flags=re.M | re.S)
    assert len(told) == 1
    assert "zero-shot" not in told[0]
    assert "forg" not in told[0]
    assert "chance" in told[0]


def test_no_difference(capsys: pytest.CaptureFixture[str], words: list[str], tmp_path: Path) -> None:
    text, result = told(capsys, words, tmp_path / "out", "--set", "told=4/4/4/4")
    gain = result.metrics["gain"]
    assert gain.low < 0 < gain.high
    assert sentence(text).startswith("Final AUC is not distinguishable from zero-shot (")
    assert sentence(text).endswith("; no label is at chance or below.")
    assert "chance: " not in text
    assert not re.search("^chance  ", text, flags=re.MULTILINE)


def test_what_began_without_an_opinion_is_compared_with_chance(
    capsys: pytest.CaptureFixture[str], words: list[str], tmp_path: Path
) -> None:
    text, result = told(capsys, words, tmp_path / "out", "--set", "told=none/5/5/5")
    assert result.metrics["zero_shot_auc"].value == 0.5
    assert sentence(text).startswith("Final AUC is above chance, where it began, by ")


def test_in_one_step_nothing_can_be_forgotten(
    capsys: pytest.CaptureFixture[str], words: list[str], tmp_path: Path
) -> None:
    text, result = told(capsys, words, tmp_path / "out", "--set", "told=1/5", "--steps", "1")
    assert "forg" not in sentence(text)
    assert result.metrics["learning"].value == pytest.approx(result.metrics["gain"].value)


def test_a_result_without_gain_and_prevalence_is_shown_without_a_verdict(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    targets, patients = made_targets()
    run = made_run(tmp_path, "made", 0, made_scores(targets, 1.0, 0), targets, patients)
    auc = run.result.array("auc_matrix")
    added = ("zero_shot_auc", "gain", "learning", "final_auc_head", "final_auc_medium", "final_auc_tail")

    def age(document: dict) -> None:
        del document["prevalence"]
        for key in (*added, "zero_shot_ap", "ap_gain", "ap_learning"):
            del document["metrics"][key]

    print_run(run.result, run.folder)
    assert "head AUC" in capsys.readouterr().out
    change_json(run.folder / "result.json", age)
    print_run(Result.read(run.folder), run.folder)
    text = capsys.readouterr().out
    (row,) = [line.split() for line in text.splitlines() if line.startswith("gain ")]
    assert row[1] == f"{auc[-1].mean() - auc[0].mean():.3f}".replace("0.", ".", 1)
    assert row[2] == "final", "no interval"
    assert "head AUC" not in text
    assert "Final AUC is" not in text
    assert main(["report", str(run.folder), "--out", str(tmp_path / "page")]) == 0
    page = (tmp_path / "page" / "report.html").read_text()
    assert '<th scope="col" title="final minus zero-shot">gain</th>' in page
    assert ">head AUC</th>" not in page


def test_the_command_that_compares_can_be_copied_whole(
    capsys: pytest.CaptureFixture[str], words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    text, _ = told(capsys, words, tmp_path / "out", "--seed", "3")
    lines = text.splitlines()
    command = lines[lines.index("Next, compare:") + 1]
    assert command.startswith("retune run ")
    assert "--strategy joint" in command
    assert "--seed 3" in command
    assert "--backbone features:" in command
    assert "--out" not in command, "there stands this run"


@pytest.mark.parametrize(
    ("hits", "moves", "wanted"),
    [
        ((0.8, 0.8, 0.8, 0.8), False, "the dice of segmentation is the frozen backbone's"),
        (
            (0.8, 0.8, 0.4, 0.6),
            True,
            "the dice of segmentation fell by {t}, the probe that was fitted first lost {d}",
        ),
        (
            (0.3, 0.8, 0.4, 0.9),
            True,
            "the dice of segmentation rose by {t}, the probe that was fitted first lost {d}",
        ),
    ],
    ids=["still", "fell", "rose"],
)
def test_the_sentence_ends_with_what_became_of_a_transfer(
    tmp_path: Path, hits: tuple[float, ...], moves: bool, wanted: str
) -> None:
    targets, patients = made_targets(rows=90)
    transfer = made_transfer(0, hits, moves)
    run = made_run(tmp_path, "a", 0, made_scores(targets, 2.0, 0), targets, patients, transfer=transfer)
    gained, drift = (transfer[0]["metrics"][key] for key in ("dense_transfer", "head_drift"))
    sign = 1 if gained["value"] > 0 else -1
    told = [
        f"{s * of['value']:.3f} ".replace("0.", ".", 1) + span(of["low"], of["high"], s)
        for s, of in ((sign, gained), (1, drift))
    ]
    assert (verdict(run.result) or "").endswith(f"; {wanted.format(t=told[0], d=told[1])}.")

"""What methods still see of another task, on the page."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from made_runs import change_json, made_run, made_scores, made_targets
from made_transfers import made_transfer

from retune.cli.main import main
from retune.report import write_report
from retune.results.result import Result
from retune.results.text import decimals


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    targets, patients = made_targets(rows=90)
    for seed in (0, 1):
        for name, transfer in (
            ("still", made_transfer(seed, (0.8, 0.8, 0.8, 0.8), moves=False)),
            ("loses", made_transfer(10 + seed)),
        ):
            scores = made_scores(targets, 2.0, seed)
            made_run(folder, name, seed, scores, targets, patients, transfer=transfer)
    return folder


@pytest.fixture(scope="module")
def page(folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("report")
    assert main(["report", str(folder), "--out", str(out), "--figures"]) == 0
    return out


def table(text: str, name: str) -> list[list[str]]:
    part = text.partition(f'aria-label="{name}"')[2].partition("</table>")[0]
    rows = [re.findall(r"<t[hd].*?</t[hd]>", row, re.DOTALL) for row in part.split("<tr")[1:]]
    return [[" ".join(re.sub(r"<[^>]*>", " ", cell).split()) for cell in row] for row in rows]


def test_a_table_has_each_method_beside_the_frozen_backbone_and_the_prior(folder, page) -> None:
    heads, *rows = table((page / "report.html").read_text(), "segmentation on made (synthetic) at the end")
    assert heads == ["dice at the end", "Pneumothorax", "Edema"], "Heart has no number"
    by_name = {row[0]: row[1:] for row in rows}
    records = [Result.read(f).transfer[0] for f in sorted(folder.glob("*loses*"))]
    for key, of in (("dice", 0), ("dice_low", 1), ("dice_high", 3)):
        mean = np.mean([record.refit[key][-1][1] for record in records])
        assert by_name["loses"][1].split()[of] == decimals(mean)
    assert list(by_name)[-2:] == ["frozen backbone", "prior, no picture"]
    assert by_name["prior, no picture"] == [".061", ".062"]


def test_the_published_rule_stands_beside_what_predicting_nothing_scores(folder, page) -> None:
    heads, first, _ = table((page / "report.html").read_text(), "Numbers of the transfer, loses")
    assert heads[-3:] == ["published rule", "empty", "prior"]
    records = [Result.read(f).transfer[0] for f in sorted(folder.glob("*loses*"))]
    published = np.mean([record.refit["published"][-1][0] for record in records])
    assert first[-3:] == [decimals(published), ".550", ".100"]
    before = [record.refit["dice"][0][0] for record in records]
    assert first[1] == decimals(np.mean(before))


def test_the_page_tells_what_must_be_told_and_holds_the_columns(page) -> None:
    text = " ".join(re.sub(r"<[^>]*>", " ", (page / "report.html").read_text()).split())
    assert "The image side does not move, and is measured once: still." in text
    assert "fewer than 5 positives" in text
    assert "dense forgetting: mean over k of (max over i &lt; T of S[i, k]) - S[T, k]" in text
    assert "Dice of the pixels of all test images together" in text
    (figure,) = (page / "figures").glob("*segmentation-on-made*.svg")
    drawn = figure.read_text()
    assert all(
        name in drawn for name in ("Pneumothorax", "Edema", "loses", "first probe, kept", "frozen", "prior")
    )
    assert "Heart" not in drawn


def test_a_page_without_a_transfer_speaks_of_none(tmp_path) -> None:
    targets, patients = made_targets(rows=90)
    made_run(tmp_path / "runs", "a", 0, made_scores(targets, 2.0, 0), targets, patients)
    write_report([tmp_path / "runs"], tmp_path / "out")
    assert not re.search("dense|transfer's|outlines", (tmp_path / "out" / "report.html").read_text())


def test_other_settings_of_a_transfer_make_another_method(tmp_path) -> None:
    targets, patients = made_targets(rows=90)
    scores = made_scores(targets, 2.0, 0)
    for k, share in enumerate((1.0, 0.1)):
        transfer = made_transfer(0, settings={"share": share})
        made_run(tmp_path / "runs", "a", 0, scores, targets, patients, transfer=transfer, stream="x" * k)
    for file in (tmp_path / "runs").glob("*/result.json"):
        change_json(file, lambda document: document["scenario"].update(fingerprint="one"))
    write_report([tmp_path / "runs"], tmp_path / "out")
    text = (tmp_path / "out" / "report.html").read_text()
    assert text.count(": what the image side still sees</h4>") == 2


@pytest.mark.parametrize(
    ("part", "told"),
    [("refit", "4 rows of 3 findings"), ("trivial", "numbers of 3 findings"), ("kept", "lacks dice_low")],
)
def test_a_transfer_that_does_not_fit_is_told_in_a_line(tmp_path, capsys, part, told) -> None:
    targets, patients = made_targets(rows=90)
    run = made_run(
        tmp_path, "a", 0, made_scores(targets, 2.0, 0), targets, patients, transfer=made_transfer()
    )

    def spoil(document):
        record = document["transfer"][0]
        if part == "kept":
            del record["kept"]["dice_low"]
        else:
            (record["refit"] if part == "refit" else record["trivial"]["prior"])["dice"].pop()

    change_json(run.folder / "result.json", spoil)
    assert main(["report", str(run.folder), "--out", str(Path(tmp_path) / "out")]) == 2
    err = capsys.readouterr().err
    assert told in err
    assert len(err.strip().splitlines()) == 1

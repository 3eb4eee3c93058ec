"""What a suite's tables say, in every form they are written in."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import subprocess
from dataclasses import replace

import numpy as np
import pytest
from made_features import SETTINGS, features_file
from made_runs import made_run, made_scores, made_targets
from rich.console import Console

from retune import run
from retune.cli.suite_tables import print_tables
from retune.errors import UserError
from retune.metrics.table import COMPARED, in_table
from retune.sealed import seal_json
from retune.suite.latex import ACROSS, escaped, latex
from retune.suite.layout import title
from retune.suite.runs import Finished
from retune.suite.summary import Summary, summarise
from retune.suite.tables import markdown, write_tables
from retune.suite.verdict import verdict

FILES = ("table.json", "table.csv", "table.md", "table.tex")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two streams: two good methods, a poor one with fewer seeds, one that forgets, and an upper bound."""
    folder = tmp_path_factory.mktemp("runs")
    found = []
    for scenario in ("class-incremental", "data-incremental"):
        targets, patients = made_targets(rows=240)
        for seed in (0, 1, 2):
            good = made_scores(targets, 2.0, seed)
            twin = made_scores(targets, 1.95, 300 + seed)
            methods = {
                "good": (good, {}),
                "twin_100%": (twin, {"cost": {"stored_features": 1200, "stored_bytes": 614_400}}),
                "loses|it": (made_scores(targets, 2.0, 50 + seed, lost=0.9), {}),
                "joint": (made_scores(targets, 3.0, 70 + seed), {"bound": True}),
            }
            if seed == 0:
                methods["poor"] = (made_scores(targets, 0.3, 30), {})
            for name, (scores, more) in methods.items():
                more = {"dataset": {"synthetic": scenario == "data-incremental"}, **more}
                found.append(
                    made_run(folder, name, seed, scores, targets, patients, scenario=scenario, **more)
                )
    return found


@pytest.fixture(scope="module")
def summary(runs):
    return summarise(runs, replicates=200)


@pytest.fixture(scope="module")
def written(summary, tmp_path_factory):
    out = tmp_path_factory.mktemp("tables") / "out"
    write_tables(summary, out)
    return out


def _printed(summary, width):
    console = Console(width=width, file=io.StringIO(), highlight=False)
    print_tables(summary, console)
    return console.file.getvalue()


def test_rows_stand_in_order_and_ties_are_told_by_their_interval(summary):
    rows = {row.strategy: row for row in summary.settings[0].rows}
    assert [row.strategy for row in summary.settings[0].rows][:: len(rows) - 1] == ["good", "joint"]
    assert {name: row.role for name, row in rows.items()} == {
        "good": "best",
        "twin_100%": "tied",
        "loses|it": "worse",
        "poor": "worse",
        "joint": "upper bound",
    }
    twin, loses, joint = (rows[name].to_best["final_auc"] for name in ("twin_100%", "loses|it", "joint"))
    assert twin.low < 0 < twin.high
    assert loses.high < 0
    assert joint.mean > 0
    assert rows["good"].to_best == {}
    assert rows["loses|it"].metrics["forgetting"].low > 0.05


def test_numbers_of_seeds_are_seen_and_paired_over_common_ones(summary, written):
    row = next(row for row in summary.settings[0].rows if row.strategy == "poor")
    assert row.seeds == [0]
    assert (row.metrics["final_auc"].n, row.metrics["final_auc"].sd) == (1, None)
    assert row.to_best["final_auc"].n == 1
    text = (written / "table.md").read_text()
    assert "1 to 3 seeds" in text
    assert "poor with seed 0; all others with seeds 0, 1, 2" in text
    assert re.search(r"\| poor \| 1 \|  \| \.\d{3} ± - \(", text)


def test_upper_bounds_are_checked(runs, summary, tmp_path):
    check = summary.settings[0].joint_check
    assert (check.upper_bounds, check.pairs, check.exceptions) == (["joint"], 4, [])
    assert "no continual method is better beyond the interval (4 compared)" in _printed(summary, 200)

    targets, patients = made_targets(rows=240)
    weak = made_run(tmp_path, "weak", 0, made_scores(targets, 0.0, 1), targets, patients, bound=True)
    found = summarise([*(c for c in runs if c.scenario == weak.scenario and c.strategy == "good"), weak])
    exception = found.settings[0].joint_check.exceptions[0]
    assert (exception.strategy, exception.upper_bound) == ("good", "weak")
    assert exception.difference.low > 0
    assert "good beats weak by ." in _printed(found, 200)


def test_json_is_the_summary_at_full_precision(summary, written):
    document = json.loads((written / "table.json").read_text())
    assert document["schema"] == "retune.suite/1"
    assert Summary.read(written / "table.json") == summary
    told = [row["metrics"]["final_auc"]["mean"] for row in document["settings"][0]["rows"]]
    assert all(value != round(value, 9) for value in told)


def test_a_table_of_before_is_read(written, tmp_path):
    """Without what later versions measure: shares, and what could be detected."""
    document = json.loads((written / "table.json").read_text())
    for row in (row for setting in document["settings"] for row in setting["rows"]):
        del row["share"]
        row["metrics"] = {"final_auc": row["metrics"]["final_auc"]}
        for one in row["to_best"].values():
            del one["detectable"]
    (tmp_path / "table.json").write_bytes(seal_json(document))
    old = Summary.read(tmp_path / "table.json")
    assert old.settings[0].rows[1].to_best["final_auc"].detectable is None
    assert "share of the way" not in _printed(old, 200).partition("Mean ±")[0]


def test_a_sentence_says_what_the_table_comes_to(summary, written, tmp_path):
    rows = {row.strategy: row for row in summary.settings[0].rows}
    start, gain = (f"{rows['good'].metrics[key].mean:.3f}"[1:] for key in ("zero_shot_auc", "gain"))
    text = " ".join(_printed(summary, 80).split())
    assert "the best of 4; tied with it: twin_100%. That is above zero-shot" in text
    assert f"above zero-shot ({start}; +{gain}" in text
    share = rows["good"].share
    assert f"{100 * share.mean:.0f} % ({100 * share.low:.0f} to {100 * share.high:.0f}) of the way" in text
    assert "of the way from zero-shot to joint (." in text
    assert "the best of 4; tied with it: twin\\_100%." in (written / "table.md").read_text()

    targets, patients = made_targets(rows=240)
    lost = made_scores(targets, 1.5, 1)[::-1].copy()  # the better before any training
    runs = [made_run(tmp_path, "lost", 0, lost, targets, patients)]
    still = np.repeat(made_scores(targets, 0.0, 2)[:1], 4, axis=0)
    runs.append(made_run(tmp_path, "still", 0, still, targets, patients))
    text = " ".join(_printed(summarise(runs, replicates=200), 300).split())
    assert re.search(r"is below zero-shot \(\.\d{3}; -\.|Below zero-shot: lost\.", text)
    alone = " ".join(_printed(summarise(runs[:1], replicates=200), 300).split())
    assert re.search(
        r"lost ends at a final AUC of \.\d{3} \(\.\d{3} to \.\d{3}\)\. That is below zero-shot", alone
    )


def test_zero_shot_is_not_compared_with_itself(tmp_path):
    targets, patients = made_targets()
    still = np.repeat(made_scores(targets, 0.0, 2)[:1], 4, axis=0)
    runs = [made_run(tmp_path, "still", 0, still, targets, patients)]
    wanted = r"still ends at a final AUC of \.\d{3} \(\.\d{3} to \.\d{3}\)\."
    assert re.fullmatch(wanted, verdict(summarise(runs, replicates=50).settings[0]))
    runs.append(made_run(tmp_path, "joint", 0, made_scores(targets, 3.0, 7), targets, patients, bound=True))
    bound = wanted + r" Upper bound: joint \(\.\d{3}\)\."
    assert re.fullmatch(bound, verdict(summarise(runs, replicates=50).settings[0]))


def test_a_file_that_is_no_table_is_told_so(tmp_path):
    file = tmp_path / "table.json"
    with pytest.raises(UserError, match="no table here"):
        Summary.read(file)
    file.write_bytes(seal_json({"schema": "retune.suite/1"}))
    with pytest.raises(UserError, match="is not a table of a suite: bootstrap: Field required"):
        Summary.read(file)


def test_csv_has_a_line_for_each_row_and_leaves_the_undefined_empty(summary, written):
    lines = list(csv.DictReader((written / "table.csv").open(newline="")))
    rows = [(setting, row) for setting in summary.settings for row in setting.rows]
    assert [(line["scenario"], line["strategy"]) for line in lines] == [
        (s.scenario, r.strategy) for s, r in rows
    ]
    for line, (setting, row) in zip(lines, rows, strict=True):
        assert line["synthetic"] == str(setting.synthetic)
        assert line["seeds"] == " ".join(map(str, row.seeds))
        for metric in (metric.key for metric in COMPARED):
            assert float(line[f"{metric}_mean"]) == row.metrics[metric].mean
            sd = row.metrics[metric].sd
            assert line[f"{metric}_sd"] == ("" if sd is None else str(sd))
        assert (line["final_auc_to_best_mean"] == "") == (row.role == "best")
        assert (line["final_auc_to_best_detectable"] == "") == (row.role == "best")
        assert (line["share_of_the_way_mean"] == "") == (row.role == "upper bound")
        assert (line["mean_rank"] == "") == (row.role == "upper bound")


def test_markdown_is_a_table_with_ties_as_bold_as_the_best(written):
    text = (written / "table.md").read_text()
    tables = re.findall(r"(?:^\|.*\|\n)+", text, re.MULTILINE)
    assert len(tables) == 3  # two streams and the ranks
    for table in tables:
        bars = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
        assert len(bars) == 1
    assert re.search(
        r"\| good \| 3 \| best \| \*\*\.\d{3} ± \.\d{3} \(\.\d{3} to \.\d{3}\)\*\* \| - \|", text
    )
    assert re.search(r"\| twin\\_100% \| 3 \| tied \| \*\*.*1,200 features, 614 kB \|", text)
    assert re.search(r"\| loses\\\|it \| 3 \|  \| \.", text)
    assert re.search(r"\| joint \| 3 \| bound \| \.", text)
    assert "data-incremental in 3 steps on made (synthetic data)" in text
    assert "class-incremental in 3 steps on made, backbone" in text


def test_latex_is_balanced_escaped_and_has_a_cell_for_every_column(written):
    text = (written / "table.tex").read_text()
    code = "\n".join(line for line in text.splitlines() if not line.startswith("%"))
    opened = []
    for kind, name in re.findall(r"\\(begin|end)\{(\w+)\}", code):
        if kind == "begin":
            opened.append(name)
        else:
            assert opened.pop() == name
    assert opened == []
    assert len(re.findall(r"(?<!\\)\{", code)) == len(re.findall(r"(?<!\\)\}", code))
    assert not re.search(r"(?<!\\)[%#]", code)
    assert "twin\\_100\\%" in code
    assert "$-$." in code
    assert not re.search(r"^[^\\].* -\.\d", code, re.MULTILINE)
    for columns, body in re.findall(r"\\begin\{tabular\}\{(\w+)\}(.*?)\\end\{tabular\}", code, re.DOTALL):
        rows = [line for line in body.splitlines() if line.endswith("\\\\")]
        assert len(rows) >= 4
        assert {len(re.findall(r"(?<!\\)&", row)) for row in rows} == {len(columns) - 1}
        assert re.findall(r"\\(\w+rule)", body)[:2] == ["toprule", "midrule"]
        assert body.strip().endswith("\\bottomrule")
    stream = code.split("\\end{table}")[0]
    assert stream.index("\nloses") < stream.rindex("\\midrule") < stream.index("\njoint")


def test_latex_commands_are_escaped():
    assert escaped(r"[a_b & 5 % {x} #1 $ ^ ~ \ ± *") == (
        r"{[}a\_b \& 5 \% \{x\} \#1 \$ \textasciicircum{} \textasciitilde{} \textbackslash{} $\pm$ {*}"
    )
    assert escaped('--set "a"\n\x1bb') == "-{}-set ''a'' b"


def _hostile(tmp_path):
    """Many methods with names that are long, and that LaTeX could take for commands."""
    targets, patients = made_targets()
    names = [f're-tune, a setting or two, {k} \n\\input{{x}} %&_#$^~<>|[*"' for k in range(24)]
    scores = made_scores(targets, 1.0, 0)
    runs = [made_run(tmp_path, str(k), 0, scores, targets, patients) for k in range(len(names))]
    runs = [replace(run, strategy=name) for run, name in zip(runs, names, strict=True)]
    return summarise(runs, replicates=5, failed={names[0]: 1})


def test_latex_folds_long_names_and_parts_long_tables(tmp_path):
    text = latex(_hostile(tmp_path))
    assert not re.search(r"^[^%\n]*\\input", text, re.MULTILINE)
    assert all(line.startswith("%") for line in text.partition("\n\\begin")[0].splitlines() if line)
    bodies = re.findall(r"\\begin\{tabular\}(.*?)\\end\{tabular\}", text, re.DOTALL)
    assert len(bodies) > 2
    assert max(body.count("\n") for body in bodies) < 60
    firsts = [line.partition(" &")[0] for body in bodies for line in body.splitlines() if " &" in line]
    assert "re-tune, a setting" in firsts
    # Once for each part of the columns, the last of them costs.
    parts = -(-(len(in_table("suite")) + 2) // ACROSS) + 1
    assert sum(first.startswith("re-tune, a setting") for first in firsts) == parts * 24
    assert "continued" in text


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no pdflatex here")
@pytest.mark.parametrize("which", ["ordinary", "hostile"])
def test_latex_compiles_and_fits_the_page(summary, tmp_path, which):
    made = summary if which == "ordinary" else _hostile(tmp_path / "runs")
    (tmp_path / "table.tex").write_text(latex(made))
    document = r"\documentclass{article}\usepackage{booktabs}\begin{document}\input{table}\end{document}"
    (tmp_path / "paper.tex").write_text(document)
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "paper.tex"], cwd=tmp_path, capture_output=True, text=True
    )
    told = [line for line in done.stdout.splitlines() if re.match(r"!|Overfull|.*Warning", line)]
    assert (done.returncode, told) == (0, [])


@pytest.mark.parametrize("width", [80, 120, 200])
def test_print_fits_the_terminal_and_loses_no_column(summary, width):
    text = _printed(summary, width)
    assert max(map(len, text.splitlines())) <= width
    for head in (
        "final AUC",
        "to best",
        "detectable",
        "share of the way",
        "zero-shot AUC",
        "gain",
        "average AUC",
        "forgetting",
        "backward transfer",
        "trained",
        "kept",
    ):
        assert re.search(rf"^method .*{head}", text, re.MULTILINE)
    assert re.search(r"^good +3 +best +\.\d{3} ± \.\d{3} .*\n +\.\d{3} to \.\d{3} ", text, re.MULTILINE)
    assert "…" not in text


def test_a_long_name_is_folded_and_numbers_are_not(tmp_path):
    targets, patients = made_targets()
    name = "re-tune-with-a-setting-or-two adaptors=shared scoring=positive epochs=50"
    run = made_run(tmp_path, name, 0, made_scores(targets, 1.0, 0), targets, patients)
    text = _printed(summarise([run]), 80)
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    assert len(re.findall(r"\.\d{3} ± -", text)) == len(in_table("suite"))
    assert len(re.findall(r"\d to -?\.\d{3}", text.partition("Mean ±")[0])) >= len(in_table("suite"))


def test_ranks_are_over_streams_and_leave_upper_bounds_out(summary, written):
    ranks = summary.ranks
    assert ranks.streams == ("class-incremental, made, made-clip", "data-incremental, made, made-clip")
    assert {m.strategy for m in ranks.methods} == {"good", "twin_100%", "loses|it", "poor"}
    assert any("less independent" in note for note in ranks.notes)
    text = (written / "table.md").read_text()
    assert "## Ranks over streams" in text
    assert "Nemenyi's critical difference" in text


def test_one_stream_has_no_ranks_but_a_reason(runs):
    one = summarise([c for c in runs if c.scenario == "class-incremental"], replicates=2)
    assert one.ranks.methods == ()
    assert "Ranks need at least two streams" in _printed(one, 100)


def test_the_same_runs_give_the_same_bytes_in_any_order(runs, tmp_path):
    few = [run for run in runs if run.seed < 2]
    for name, order in (("a", few), ("b", few[::-1])):
        write_tables(summarise(order, replicates=20), tmp_path / name)
    for file in FILES:
        found = (tmp_path / "a" / file).read_bytes()
        assert found == (tmp_path / "b" / file).read_bytes()
        assert str(few[0].folder.parent).encode() not in found


def test_cautions_stand_below_their_table_once(tmp_path):
    targets, patients = made_targets()
    runs = [
        made_run(
            tmp_path, name, 0, made_scores(targets, 1.0, 0), targets, patients,
            backbone={"contaminated": "possibly", "synthetic": True},
            dataset={"notes": ["Labels were read from reports."], "undefined_labels": ["Hernia"]},
        )
        for name in ("one", "two")
    ]  # fmt: skip
    text = _printed(summarise(runs, replicates=2), 200)
    assert "backbone made-clip (possibly contaminated)" in text
    for line in (
        "Contaminated: possibly. made-clip was pre-trained on MIMIC-CXR.",
        "made-clip was trained on synthetic pictures only",
        "Labels were read from reports.",
        "one class only: Hernia.",
        "No upper bound was run, so none was checked and there is no share of the way: add joint",
    ):
        assert text.count(line) == 1


def test_undefined_for_all_is_not_shown_and_equal_methods_are_tied(tmp_path):
    targets, patients = made_targets()
    scores = made_scores(targets, 1.0, 0)[:2]
    first = np.array([1, 1, 1])
    runs = [made_run(tmp_path, n, 0, scores, targets, patients, first=first) for n in ("one", "two")]
    made = summarise(runs, replicates=5)
    assert [row.role for row in made.settings[0].rows] == ["best", "tied"]
    text = _printed(made, 200)
    row = next(line for line in text.splitlines() if line.startswith("two"))
    assert re.search(r"\+\.000 +\.000 ", row)  # to the best, and what could have been seen
    assert "  -  " not in row
    heads = text.partition("\ntwo")[0]
    assert "gain" in heads
    assert "forgetting" not in heads  # in one step nothing is forgotten
    assert "backward transfer" not in heads
    assert " 1 seed\n" in text


def test_no_runs_are_no_table_and_no_failure(tmp_path):
    write_tables(summarise([]), tmp_path)
    assert json.loads((tmp_path / "table.json").read_text())["settings"] == []
    assert "No run is finished." in (tmp_path / "table.md").read_text()
    assert len((tmp_path / "table.csv").read_text().splitlines()) == 1
    assert "\\begin" not in (tmp_path / "table.tex").read_text()
    assert _printed(summarise([]), 80) == "No run is finished.\n"


def test_progress_tells_every_run(runs):
    few, told = runs[:6], []
    summarise(few, replicates=2, progress=lambda *step: told.append(step))
    assert told == [("comparing runs", i + 1, 6) for i in range(6)]


def test_as_many_resamples_as_the_runs_had_unless_told(runs):
    assert summarise(runs[:2]).bootstrap.replicates == 5
    assert summarise(runs[:2], replicates=7).bootstrap.replicates == 7


def test_settings_that_a_search_chose_are_told(tmp_path):
    targets, patients = made_targets()
    search = {"candidates": [], "chosen": {"lr": 0.1}, "labels": ["Edema"], "n_train": 9, "n_valid": 3}
    runs = [
        made_run(tmp_path, "searched", 0, made_scores(targets, 1.0, 0), targets, patients, search=search),
        made_run(tmp_path, "plain", 0, made_scores(targets, 1.0, 1), targets, patients),
    ]
    text = _printed(summarise(runs), 200)
    assert "Settings chosen on held-out training patients of the first experience: searched." in text


def test_real_runs_make_tables(tmp_path):
    backbone, runs = features_file(tmp_path), []
    for strategy in ("linear-probe", "joint"):
        folder = tmp_path / strategy
        run(
            strategy=strategy,
            backbone=backbone,
            settings={**SETTINGS, "start": "zeros"},
            replicates=5,
            out=folder,
        )
        runs.append(Finished(strategy, "class-incremental", "phantom", "made", "", 0, folder))
    summary = summarise(runs)
    write_tables(summary, tmp_path / "tables")
    assert [(row.strategy, row.role) for row in summary.settings[0].rows] == [
        ("linear-probe", "best"),
        ("joint", "upper bound"),
    ]
    text = (tmp_path / "tables" / "table.md").read_text()
    assert "on phantom (synthetic data), backbone made" in text
    assert "no picture was looked at" in text


def test_what_failed_is_said_with_the_tables(runs, tmp_path):
    summary = summarise(runs, failed={"mine_": 2, "other": 1})
    write_tables(summary, tmp_path)
    assert Summary.read(tmp_path / "table.json").failed == {"mine_": 2, "other": 1}
    assert (
        r"Failed, and so in no table: mine\_ (2 runs), other (1 run)." in (tmp_path / "table.md").read_text()
    )
    assert "mine_ (2 runs)" in (tmp_path / "table.tex").read_text()
    assert "mine_ (2 runs)" in _printed(summary, 120)


def test_a_name_that_is_a_formula_or_a_command_is_text_in_every_file(tmp_path):
    names = [
        "=HYPERLINK(\"http://a.example\")", "+1+cmd", "-1+2", "@SUM(A1)", "\t=1", "\r=2", "＝1", "-0.5", "plain",
        "a\x1b[2Jb\x9b\u202ec\u2028d|e",
    ]  # fmt: skip
    targets, patients = made_targets(rows=60)
    scores = made_scores(targets, 1.0, 0)
    first = made_run(tmp_path, "plain", 0, scores, targets, patients)
    made = summarise([replace(first, strategy=name) for name in names], replicates=2)
    write_tables(made, tmp_path / "t")
    assert Summary.read(tmp_path / "t" / "table.json") == made
    texts = {name: (tmp_path / "t" / name).read_text() for name in FILES}
    read = {row["strategy"] for row in csv.DictReader(io.StringIO(texts["table.csv"]))}
    assert read == {
        "'=HYPERLINK(\"http://a.example\")", "'+1+cmd", "'-1+2", "'@SUM(A1)", "' =1", "' =2", "'＝1", "-0.5", "plain",
        "a�[2Jb�\N{REPLACEMENT CHARACTER}c d|e",
    }  # fmt: skip
    for name in FILES[1:]:
        assert all(c.isprintable() or c == "\n" for c in texts[name]), name
    rows = list(csv.reader(io.StringIO(texts["table.csv"])))[1:]
    assert any(cell.startswith("-") and float(cell) < 0 for row in rows for cell in row[9:] if cell)
    assert all(not cell.startswith("'") for row in rows for cell in row[9:])


def test_what_must_be_said_and_other_prompts_stand_above_the_table(tmp_path) -> None:
    targets, patients = made_targets()
    notes = {"dataset": {"notes": ["Chosen split: by column 'split'"]}}
    run = made_run(tmp_path, "one", 0, made_scores(targets, 1.0, 0), targets, patients, **notes)
    summary, terminal = summarise([run], replicates=5), Console(file=io.StringIO(), width=200)
    print_tables(summary, terminal)
    for text in (terminal.file.getvalue(), markdown(summary)):
        places = [
            text.index(what) for what in ("backbone made-clip, prompts made, ", "Chosen split", "method")
        ]
        assert places == sorted(places)
        assert text.count("Chosen split") == 1
    (setting,) = summary.settings
    for known in ([], ["language-model"]):  # a table that is older than the field, and the default bank
        assert "prompts" not in title(setting.model_copy(update={"prompts": known}))

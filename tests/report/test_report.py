"""A page about many runs: its numbers, its figures, and that nothing in a result can do harm."""

from __future__ import annotations

import json
import math
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from statistics import mean, stdev
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from made_runs import made_run, made_scores, made_targets
from PIL import Image

import retune
from retune.cli.main import main
from retune.metrics.continual import average_auc
from retune.metrics.table import in_table
from retune.report import write_report
from retune.report.groups import Section, mean_seen, sections
from retune.report.places import beside
from retune.results.collect import collect
from retune.results.result import Result
from retune.results.text import decimals
from retune.results.verdict import verdict as run_verdict
from retune.runner.run import prepare
from retune.runner.shared import Shared
from retune.runner.spec import Spec
from retune.scaffold import starting_point
from retune.sealed import seal_json
from retune.suite.runs import Finished
from retune.suite.summary import summarise

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>{{ 7*7 }}\u0000\u202e"


class Page(HTMLParser):
    """Elements with their attributes, and text by the row header it stands after."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    @property
    def values(self) -> list[float]:
        return [float(attributes["value"] or "") for tag, attributes in self.elements if tag == "data"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, shared = tmp_path_factory.mktemp("runs"), Shared()
    wanted = [(f"{name}/{seed}", name, seed, None) for name in ("linear-probe", "joint") for seed in (0, 1)]
    for place, strategy, seed, scenario in [*wanted, ("data/0", "linear-probe", 0, "data-incremental")]:
        spec = Spec(
            scenario=scenario or "class-incremental",
            strategy=strategy,
            seed=seed,
            steps=3 if scenario else None,
            settings={"data.images": 200, "data.size": 64},
            replicates=20,
        )
        prepare(spec, folder / place, shared=shared).execute()
    return folder


@pytest.fixture
def changed(runs: Path, tmp_path: Path) -> Callable[..., Path]:
    """A copy of one run with parts of its result replaced; a new id unless one is given."""

    def change(name: str, source: str = "linear-probe/0", **parts: Any) -> Path:
        document = json.loads((runs / source / "result.json").read_text())
        document["run"]["id"] = name
        for key, value in parts.items():
            document[key] = {**document[key], **value} if isinstance(value, dict) else value
        folder = tmp_path / "changed" / name
        folder.mkdir(parents=True)
        (folder / "result.json").write_bytes(seal_json(document))
        return folder

    return change


@pytest.fixture(scope="module")
def report(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of all of them, with figures."""
    out = tmp_path_factory.mktemp("report")
    assert main(["report", str(runs), "--out", str(out), "--figures"]) == 0
    return out


def read(out: Path) -> Page:
    return Page((out / "report.html").read_text(encoding="utf-8"))


def grouped(*paths: Path) -> tuple[Section, ...]:
    return sections(collect(paths, lambda stage, done, total: None).results)


def page_of(out: Path, *paths: Path) -> Page:
    write_report(paths, out)
    return read(out)


def table_of(out: Path, name: str) -> tuple[list[str], list[list[str]]]:
    """Heads and rows of a table of the page, by the name that it has for who does not see it."""
    page = (out / "report.html").read_text(encoding="utf-8")
    text = page.partition(f'aria-label="{name}"')[2].partition("</table>")[0]
    rows = [re.findall(r"<t[hd].*?</t[hd]>", row, re.DOTALL) for row in text.split("<tr")[1:]]
    words = [[" ".join(re.sub(r"<[^>]*>", " ", cell).split()) for cell in row] for row in rows]
    return words[0], words[1:]


def test_numbers_are_those_of_the_results(runs: Path, report: Path) -> None:
    assert "5 runs of 2 strategies on 2 streams." in read(report).text
    cells = {
        ("class-incremental", 0): [retune.Result.read(runs / "linear-probe" / s) for s in "01"],
        ("class-incremental", 1): [retune.Result.read(runs / "joint" / s) for s in "01"],
        ("data-incremental", 0): [retune.Result.read(runs / "data" / "0")],
    }
    for (stream, k), results in cells.items():
        heads, rows = table_of(report, f"Methods on {stream}, the best first")
        for metric in in_table("report"):
            values = [value for r in results if (value := r.metric(metric.key).value) is not None]
            if values:
                assert rows[k][heads.index(metric.heading)].startswith(decimals(mean(values)))
    finals = [r.metrics["final_auc"].value or 0.0 for r in cells["class-incremental", 0]]
    three = [f"{x:.3f}".removeprefix("0") for x in (mean(finals), stdev(finals))]
    assert f"{three[0]} ± {three[1]}" in read(report).text


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four methods, a poor one first by its name, and an upper bound, on two streams; their report."""
    folder = tmp_path_factory.mktemp("compared")
    targets, patients = made_targets(rows=240)
    for scenario in ("class-incremental", "label-incremental"):
        for seed in (0, 1):
            skills = {"a-poor": 0.4, "twin": 2.0, "good": 1.97, "z-poorer": 0.2, "joint": 3.5}
            for k, (name, skill) in enumerate(skills.items()):
                scores = made_scores(targets, skill, 10 * k + seed)
                bound = name == "joint"
                made_run(folder, name, seed, scores, targets, patients, scenario=scenario, bound=bound)
    metric = folder / "ours.py"
    metric.write_text(starting_point("our-worst", "worst-label"))
    write_report([folder], folder / "out", metrics=[str(metric)])
    return folder


def test_methods_stand_by_final_auc_with_their_ranks(compared: Path) -> None:
    heads, rows = table_of(compared / "out", "Methods on class-incremental, the best first")
    assert heads[:6] == ["rank", "method", "final AUC", "to best", "detectable", "share of the way"]
    assert [row[:2] for row in rows] == [
        ["1", "good best"], ["2", "twin tied"], ["3", "a-poor"], ["4", "z-poorer"], ["–", "joint upper bound"],
    ]  # fmt: skip
    finals = [float(row[2][:4]) for row in rows[:4]]
    assert finals == sorted(finals, reverse=True)
    page = (compared / "out" / "report.html").read_text()
    assert [page.count(f'<tr class="{role}">') for role in ("best", "tied", "worse", "bound")] == [
        2,
        2,
        4,
        2 + 1,
    ]


def test_a_metric_of_ones_own_is_marked(compared: Path) -> None:
    page = (compared / "out" / "report.html").read_text(encoding="utf-8")
    assert "our-worst †</th>" in page
    assert "our-worst †: † not part of the benchmark (local file); AUC of the worst label" in page


def test_differences_to_the_best_are_those_that_a_suite_tells(compared: Path) -> None:
    _, rows = table_of(compared / "out", "Methods on class-incremental, the best first")
    folders = sorted(compared.glob("class-incremental-*"))
    names = [Result.read(folder).strategy.name for folder in folders]
    cells = [Finished(n, "", "", "", "", int(f.name[-1]), f) for n, f in zip(names, folders, strict=True)]
    told = {row.strategy: row for row in summarise(cells).settings[0].rows}
    for row in rows[1:]:
        one = told[row[1].split()[0]]
        paired = one.to_best["final_auc"]
        ends = [decimals(x, signed=True) for x in (paired.mean, paired.low, paired.high)]
        assert row[3] == f"{ends[0]} {ends[1]} to {ends[2]}"
        assert row[4] == decimals(paired.detectable)
        if one.share is not None:
            assert row[5].startswith(f"{decimals(one.share.mean)} ± {decimals(one.share.sd)} ")
    assert rows[0][3] == rows[0][4] == rows[-1][5] == "–"


def test_first_a_sentence_then_a_table_then_pictures(compared: Path) -> None:
    page = (compared / "out" / "report.html").read_text()
    stream = page[page.index('<h3 id="s1-1"') :]
    sentence, table, picture = (stream.index(sign) for sign in ('<p class="verdict">', "<table>", "<svg"))
    assert sentence < table < picture
    words = " ".join(re.sub(r"<[^>]*>", "", stream[sentence:table]).split())
    assert words.startswith("good ends at a final AUC of .")
    assert "the best of 4; tied with it: twin. That is above zero-shot (." in words
    assert "of the way from zero-shot to joint (" in words


def test_a_run_alone_has_no_rank_and_its_own_sentence(runs: Path, tmp_path: Path) -> None:
    result = Result.read(runs / "data" / "0")
    page = page_of(tmp_path, runs / "data" / "0")
    told = run_verdict(result)
    assert told is not None
    assert told.partition(" (")[0] in page.text
    heads, rows = table_of(tmp_path, "Methods on data-incremental, the best first")
    assert heads[:2] == ["method", "final AUC"]
    assert "to best" not in heads
    assert rows[0][0] == "linear-probe"


def test_over_streams_ranks_are_means_and_matrices_are_open(compared: Path) -> None:
    heads, rows = table_of(compared / "out", "Final AUC of each method on each stream")
    assert heads == ["method", "mean rank", "class-incremental", "label-incremental", "tied with"]
    assert [row[:2] for row in rows] == [
        ["good", "1.00"], ["twin", "2.00"], ["a-poor", "3.00"], ["z-poorer", "4.00"], ["joint upper bound", "–"],
    ]  # fmt: skip
    text = (compared / "out" / "report.html").read_text()
    assert (
        "Best on class-incremental: good, tied with twin. Best on label-incremental: good, tied with twin."
        in text
    )
    matrices = [found.start() for found in re.finditer('aria-label="Heat-map', text)]
    assert len(matrices) == 10
    for at in matrices:
        assert text[:at].count("<details") == text[:at].count("</details>")
    # Every point of both scatter plots has its name, and none a number to be looked up.
    for figure in re.findall(r'<svg[^>]*aria-label="Two scatter plots.*?</svg>', text, re.DOTALL):
        drawn = re.findall(r"<text[^>]*>([^<]*)</text>", figure)
        for name in ("good", "twin", "a-poor", "z-poorer", "joint (upper bound)"):
            assert drawn.count(name) == 2


def test_without_an_upper_bound_the_command_that_makes_one_is_told(
    compared: Path, changed: Callable[..., Path], tmp_path: Path
) -> None:
    command = "retune run --scenario class-incremental --strategy replay --seed 0 --set lr=0.1 --set data.images=200"
    page = page_of(tmp_path, changed("9" * 12, run={"command": command}))
    told = "retune run --scenario class-incremental --seed 0 --set data.images=200 --strategy joint"
    assert told in page.text
    assert "--strategy joint" not in read(compared / "out").text


def test_names_of_points_do_not_overlap() -> None:
    points = [(160.0, 80.0 + k / 3) for k in range(14)] + [(2.0, 85.0), (318.0, 80.0)]
    names = [f"avalanche:Method{k}" for k in range(16)]
    places = beside(points, names, 320, 220)
    boxes = [place.box(name) for place, name in zip(places, names, strict=True)]
    for k, (left, top, right, bottom) in enumerate(boxes):
        assert left >= 0
        assert right <= 320
        for a, b, c, d in boxes[:k]:
            assert right <= a or left >= c or bottom <= b or top >= d


def test_curves_average_to_the_average_auc(runs: Path) -> None:
    result = retune.Result.read(runs / "linear-probe" / "0")
    seen = mean_seen(result)
    assert seen.shape == (5,)
    assert np.nanmean(seen) == pytest.approx(average_auc(result.array("auc_matrix"), result.first), abs=1e-12)


def test_page_says_what_must_be_said(runs: Path, changed: Callable[..., Path], tmp_path: Path) -> None:
    backbone = {"contaminated": "yes", "pretraining_data": ["phantom itself"]}
    cost = {"stored_features": 12, "stored_bytes": 3400}
    strategy = {"name": "hoarder", "settings": {}}
    more = changed("a" * 12, backbone=backbone, cost=cost, strategy=strategy)
    page = page_of(tmp_path, runs, more)
    assert "Synthetic data. Pictures of no patient" in page.text
    assert "Contaminated: yes. phantom-clip was pre-trained on phantom itself." in page.text
    assert "joint upper bound" in page.text
    assert "hoarder keeps features" in page.text
    assert "12 features, 3.4 kB" in page.text
    assert "retune run --scenario class-incremental --strategy linear-probe" in page.text
    assert f"retune {retune.__version__}" in page.text


def test_page_needs_nothing_else(report: Path) -> None:
    page = read(report)
    tags = {tag for tag, _ in page.elements}
    assert not tags & {"script", "link", "img", "image", "iframe", "object", "use", "foreignobject", "base"}
    addresses = [
        v for _, a in page.elements for k, v in a.items() if k in ("src", "href", "xlink:href") and v
    ]
    assert addresses
    assert all(address.startswith("#") for address in addresses)
    assert not re.search(r"https?://|url\((?!#)|@import", (report / "report.html").read_text())
    policy = [a["content"] for tag, a in page.elements if tag == "meta" and "http-equiv" in a]
    assert policy == ["default-src 'none'; style-src 'unsafe-inline'"]
    identifiers = [a["id"] for _, a in page.elements if a.get("id")]
    assert len(identifiers) == len(set(identifiers))


def test_every_figure_says_what_it_shows(report: Path) -> None:
    page = read(report)
    drawn = [a for tag, a in page.elements if tag == "svg"]
    # Curves and cost of two streams, forgetting where any is lost, a matrix for every method.
    assert len(drawn) == 2 * 2 + 3 + sum("Bars" in (a["aria-label"] or "") for a in drawn)
    assert all(a["role"] == "img" and len(a["aria-label"] or "") > 60 for a in drawn)
    headers = [a for tag, a in page.elements if tag == "th"]
    assert all(a.get("scope") in ("row", "col", "colgroup") for a in headers)


def test_text_of_results_cannot_do_anything(changed: Callable[..., Path], tmp_path: Path) -> None:
    labels = retune.Result.read(changed("b" * 12)).labels
    folder = changed(
        "c" * 12,
        strategy={"name": HOSTILE, "settings": {HOSTILE: [HOSTILE]}},
        scenario={"name": HOSTILE, "settings": {HOSTILE: HOSTILE}},
        dataset={"name": HOSTILE, "source": HOSTILE, "labels": [HOSTILE, *labels[1:]], "notes": [HOSTILE]},
        backbone={"name": HOSTILE, "licence": HOSTILE, "pretraining_data": [HOSTILE], "contaminated": "yes"},
        prompts={"name": HOSTILE},
        run={"id": HOSTILE, "command": HOSTILE, "created": HOSTILE, "versions": {HOSTILE: HOSTILE}},
    )
    page = page_of(tmp_path / "out", folder)
    assert not {"script", "img"} & {tag for tag, _ in page.elements}
    assert not [k for _, a in page.elements for k in a if k.startswith("on")]
    assert page.text.count("<script>alert(1)</script>") > 10
    assert "{{ 7*7 }}" in page.text
    assert not {"\u0000", "\u202e"} & set((tmp_path / "out" / "report.html").read_text())
    write_report([folder], tmp_path / "files", figures=True)
    files = sorted((tmp_path / "files" / "figures").iterdir())
    assert files
    assert all(re.fullmatch(r"[a-z0-9-]+\.(svg|png)", file.name) for file in files)
    for file in files[1::2]:
        assert not [e.tag for e in ElementTree.parse(file).iter() if e.tag in (SVG + "script", SVG + "image")]


def test_figures_as_files(runs: Path, report: Path) -> None:
    folder = report / "figures"
    drawn = sorted(folder.glob("*.svg"))
    stem = "phantom-with-phantom-clip"
    assert {f"{stem}-class-incremental-curves.svg", f"{stem}-data-incremental-cost.svg"} <= {
        file.name for file in drawn
    }
    assert f"{stem}-class-incremental-matrix-joint.svg" in {file.name for file in drawn}
    for file in drawn:
        root = ElementTree.parse(file).getroot()
        width, height = float(root.attrib["width"]), float(root.attrib["height"])
        with Image.open(file.with_suffix(".png")) as picture:
            assert picture.size == (math.ceil(2 * width), math.ceil(2 * height))
            assert picture.convert("RGB").getpixel((0, 0)) == (255, 255, 255)
            assert len(picture.convert("L").getcolors() or []) > 10
    heat = ElementTree.parse(folder / f"{stem}-class-incremental-matrix-linear-probe.svg")
    words = [element.text for element in heat.iter(SVG + "text")]
    seeds = [retune.Result.read(runs / "linear-probe" / s).array("auc_matrix") for s in "01"]
    numbers = [f"{x:.3f}".removeprefix("0") for x in np.mean(seeds, axis=0).ravel() if not np.isnan(x)]
    assert sorted(w for w in words if w and re.fullmatch(r"\.\d{3}", w)) == sorted(
        x for x in numbers if x.startswith(".")
    )


def test_same_runs_give_the_same_bytes(runs: Path, report: Path, tmp_path: Path) -> None:
    for k, folder in enumerate(sorted(p.parent for p in runs.rglob("result.json"))):
        shutil.copytree(folder, tmp_path / "elsewhere" / f"{9 - k}")
    parts = sorted((tmp_path / "elsewhere").iterdir(), reverse=True)
    write_report(parts, tmp_path / "again", figures=True)
    files = sorted(p.relative_to(report) for p in report.rglob("*.*"))
    assert len(files) > 10
    assert [(report / f).read_bytes() for f in files] == [
        (tmp_path / "again" / f).read_bytes() for f in files
    ]


def test_copies_count_once(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(runs / "joint", tmp_path / "again")
    assert main(["report", str(runs / "joint"), str(tmp_path / "again"), "--out", str(tmp_path / "out")]) == 0
    assert "2 copies of runs left out" in capsys.readouterr().out
    assert "2 runs of 1 strategy on 1 stream." in Page((tmp_path / "out" / "report.html").read_text()).text


def test_unfinished_runs_are_counted(runs: Path, tmp_path: Path) -> None:
    shutil.copytree(runs / "joint", tmp_path / "runs")
    (tmp_path / "runs" / "1" / "result.json").unlink()
    assert "1 unfinished run left out." in page_of(tmp_path / "out", tmp_path / "runs").text


@pytest.mark.parametrize(
    ("part", "value", "sections"),
    [
        ("dataset", {"fingerprint": "f" * 64}, 2),
        ("backbone", {"fingerprint": "f" * 64}, 2),
        ("backbone", {"precision": "bf16"}, 2),
        ("scenario", {"fingerprint": "f" * 64}, 1),
        ("scenario", {"settings": {"steps": 5, "order": "frequency"}}, 1),
    ],
)
def test_what_differs_is_never_averaged(
    runs: Path, changed: Callable[..., Path], tmp_path: Path, part: str, value: Any, sections: int
) -> None:
    other = changed("d" * 12, **{part: value})
    found = grouped(runs / "linear-probe" / "0", other)
    assert len(found) == sections
    entries = [e for section in found for stream in section.streams for e in stream.groups]
    assert [len(entry.runs) for entry in entries] == [1, 1]
    titles = [(section.title, stream.title) for section in found for stream in section.streams]
    assert len(set(titles)) == 2


def test_streams_that_one_method_ran_on_stay_together(runs: Path, changed: Callable[..., Path]) -> None:
    """A scenario changed under its name: other streams for both seeds, seen by another method."""
    others = [
        changed(
            str(seed) * 12,
            f"joint/{seed}",
            scenario={"fingerprint": str(seed) * 64},
            strategy={"name": "other"},
        )
        for seed in (0, 1)
    ]
    found = grouped(runs / "linear-probe", *others)
    streams = found[0].streams
    assert [[len(e.runs) for e in stream.groups] for stream in streams] == [[2], [2]]
    assert [[e.method.name for e in stream.groups] for stream in streams] == [["other"], ["linear-probe"]]


def test_methods_that_share_no_seed_stand_on_one_stream(
    runs: Path, changed: Callable[..., Path], tmp_path: Path
) -> None:
    other = changed("7" * 12, "joint/1", strategy={"name": "other"})
    found = grouped(runs / "linear-probe" / "0", other)
    assert [len(stream.groups) for stream in found[0].streams] == [2]


def test_settings_that_differ_name_the_method(
    changed: Callable[..., Path], runs: Path, tmp_path: Path
) -> None:
    result = retune.Result.read(runs / "linear-probe" / "0")
    settings = result.strategy.settings
    other = changed("e" * 12, strategy={"settings": {**settings, "lr": 0.5}})
    found = grouped(runs / "linear-probe" / "0", other)
    labels = [method.label for method in found[0].methods]
    assert sorted(labels) == sorted([f"linear-probe, lr={settings['lr']}", "linear-probe, lr=0.5"])


def test_a_preset_names_the_method(changed: Callable[..., Path], runs: Path, tmp_path: Path) -> None:
    settings = retune.Result.read(runs / "linear-probe" / "0").strategy.settings

    def trunk(name: str, source: str = "linear-probe/0", preset: str = "trunk", **more: Any) -> Path:
        asked = {"preset": preset, "settings": {**settings, "head": "trunk", **more}}
        return changed(name * 12, source, strategy=asked)

    def labels(*paths: Path) -> list[str]:
        (section,) = grouped(runs / "linear-probe" / "0", *paths)
        return sorted(method.label for method in section.methods)

    preset = trunk("1")
    assert labels(preset) == ["linear-probe", "linear-probe/trunk"]
    assert labels(preset, trunk("2", lr=0.5)) == [
        "linear-probe",
        f"linear-probe/trunk, lr={settings['lr']}",
        "linear-probe/trunk, lr=0.5",
    ]
    # The same settings by hand, for another seed, are the same method.
    assert labels(preset, trunk("3", "linear-probe/1", preset="")) == ["linear-probe", "linear-probe/trunk"]
    assert "linear-probe/trunk" in page_of(tmp_path / "page", runs / "linear-probe" / "0", preset).text


def test_label_order_that_differs_by_seed(runs: Path, changed: Callable[..., Path], tmp_path: Path) -> None:
    experiences = retune.Result.read(runs / "linear-probe" / "1").model_dump()["scenario"]["experiences"]
    backwards = {"experiences": experiences[::-1]}
    folders = [runs / "linear-probe" / "0", changed("8" * 12, "linear-probe/1", scenario=backwards)]
    page = page_of(tmp_path / "out", *folders)
    assert "seed 0 alone, for labels come in another order with every seed" in page.text
    (group,) = grouped(*folders)[0].streams[0].groups
    assert len(group.runs) == 2
    np.testing.assert_array_equal(group.matrix(), group.runs[0].array("auc_matrix"))


def test_many_methods_get_a_panel_each(runs: Path, changed: Callable[..., Path], tmp_path: Path) -> None:
    more = [changed(f"{k}" * 12, strategy={"name": f"method-{k}"}) for k in range(8)]
    page = page_of(tmp_path / "out", runs / "joint", *more)
    for word in ("method-0", "method-7", "joint"):
        assert page.words.count(word) >= 3


def broken(document: dict[str, Any], how: str) -> bytes:
    if how == "not JSON":
        return b"{"
    if how == "a row too few":
        document["auc_matrix"].pop()
    if how == "a ragged row":
        document["auc_low"][1].pop()
    if how == "learnt too late":
        document["first"][0] = 99
    if how == "no forgetting":
        del document["metrics"]["forgetting"]
    if how == "an endless cost":
        document["cost"]["fit_seconds"] = 1e300
    return seal_json(document)


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ("not JSON", "is not as it was written"),
        ("a row too few", "auc_matrix must have 6 rows of 14 labels"),
        ("a ragged row", "auc_low must have 6 rows of 14 labels"),
        ("learnt too late", "first must lie within 0"),
        ("no forgetting", "metrics lacks forgetting"),
        ("an endless cost", "cost must hold numbers"),
    ],
)
def test_a_broken_result_is_told_in_one_line(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], how: str, told: str
) -> None:
    file = tmp_path / "bad" / "result.json"
    file.parent.mkdir()
    file.write_bytes(broken(json.loads((runs / "joint" / "0" / "result.json").read_text()), how))
    assert main(["report", str(runs), str(file.parent), "--out", str(tmp_path / "out")]) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if "..." not in line]
    assert len(errors) == 1
    assert str(file) in errors[0]
    assert told in errors[0]
    assert not (tmp_path / "out").exists()


def test_folders_without_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    assert "no result.json here or below" in capsys.readouterr().err
    assert main(["report", str(tmp_path / "nowhere"), "--out", str(tmp_path / "out")]) == 2
    assert "no such folder" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_two_runs_that_cannot_be_told_apart(
    runs: Path, changed: Callable[..., Path], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    other = changed("f" * 12)
    words = ["report", str(runs / "linear-probe"), str(other), "--out", str(tmp_path / "out")]
    assert main(words) == 2
    assert "ffffffffffff" in capsys.readouterr().err


def test_help_imports_none_of_it() -> None:
    code = (
        "import sys\nfrom retune.cli.main import main\nmain(['report', '--help'])\n"
        "sys.exit(any(m in sys.modules for m in ('torch', 'altair', 'jinja2', 'vl_convert')))\n"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


@pytest.mark.slow
def test_a_browser_has_nothing_to_complain_of(report: Path, tmp_path: Path) -> None:
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("needs chromium")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--dump-dom"]
    command = [browser, *options, f"--user-data-dir={tmp_path / 'profile'}", f"file://{report}/report.html"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0
    assert "linear-probe" in done.stdout
    assert not [line for line in done.stderr.splitlines() if "CONSOLE" in line]


def test_seeds_that_chose_other_settings_are_one_method(changed: Callable[..., Path], runs: Path) -> None:
    folders = []
    for seed, lr in enumerate((1e-3, 1e-4)):
        result = json.loads((runs / "linear-probe/0" / "result.json").read_text())
        candidates = [{"settings": {"lr": value}, "auc": 0.5, "failure": None} for value in (1e-3, 1e-4)]
        search = {
            "candidates": candidates,
            "chosen": {"lr": lr},
            "labels": ["Edema"],
            "n_train": 9,
            "n_valid": 3,
        }
        settings = {**result["strategy"]["settings"], "lr": lr}
        folders.append(
            changed(f"s{seed}", run={"seed": seed}, strategy={"settings": settings, "search": search})
        )
    (section,) = grouped(*folders)
    (method,) = section.methods
    assert method.settings["lr"] == "searched"

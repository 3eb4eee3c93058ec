"""What a notebook does: classes and instances in place of names, results and suites as tables."""

from __future__ import annotations

import importlib.util
import inspect
import json
import pydoc
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from made_features import SETTINGS, features_file

import retune
from retune.errors import UnknownName, UserError
from retune.scaffold import starting_point

OURS = '''
from dataclasses import dataclass

from retune import Scenario, Strategy


@dataclass
class Ours(Strategy):
    """Scores by features as they are, times a scale."""

    name = "ours"
    needs = frozenset({"features"})
    scale: float = 1.0

    def fit(self, experience):
        pass

    def score(self, images):
        return self.scale * images.features[:, : len(self.context.labels)]
'''


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> str:
    return features_file(tmp_path_factory.mktemp("features"))


def module_of(file: Path, text: str) -> Any:
    """A file that a notebook imports."""
    file.write_text(text, encoding="utf-8")
    spec = importlib.util.spec_from_file_location(f"{file.stem}_of_a_test", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> tuple[type[retune.Strategy], Path]:
    file = tmp_path_factory.mktemp("ours") / "ours.py"
    module = module_of(file, OURS)
    return module.Ours, file


def run(out: Path, backbone: str, **options: Any) -> retune.Result:
    settings = {**SETTINGS, **options.pop("settings", {})}
    return retune.run(out=out, backbone=backbone, replicates=20, settings=settings, **options)


def rows_of(chart: Any) -> list[dict[str, Any]]:
    """Everything that a chart draws, each row once."""

    def found(part: Any) -> Iterator[dict[str, Any]]:
        if isinstance(part, dict):
            yield from (row for row in part.get("values", []) if isinstance(row, dict))
        for below in part.values() if isinstance(part, dict) else part if isinstance(part, list) else ():
            yield from found(below)

    spec = json.loads(chart.to_json(validate=False))
    return list({json.dumps(row): row for row in found(spec)}.values())


def test_a_class_is_the_run_of_its_file(tmp_path: Path, backbone: str, ours) -> None:
    cls, file = ours
    by_class = run(tmp_path / "class", backbone, strategy=cls)
    by_name = run(tmp_path / "name", backbone, strategy=f"{file}:Ours")
    assert by_class.run.id == by_name.run.id
    assert f"{file}:Ours" in by_class.run.command


def test_an_instance_brings_its_settings(tmp_path: Path, backbone: str, ours) -> None:
    cls, _ = ours
    found = run(tmp_path / "run", backbone, strategy=cls(scale=-1.0))
    assert found.strategy.settings == {"scale": -1.0}
    plain = run(tmp_path / "plain", backbone, strategy=cls())
    assert found.auc_matrix[0][0] == pytest.approx(1 - plain.auc_matrix[0][0])
    # What is written beside it counts.
    assert run(
        tmp_path / "both", backbone, strategy=cls(scale=-1.0), settings={"scale": 2}
    ).strategy.settings == {"scale": 2.0}


def test_our_own_classes_are_called_by_their_names(tmp_path: Path, backbone: str) -> None:
    ridge = retune.registry("strategies").load("ridge")
    scenario = retune.registry("scenarios").load("label-incremental")
    found = run(tmp_path / "run", backbone, strategy=ridge(start="zeros"), scenario=scenario(steps=2))
    assert (found.strategy.name, found.strategy.origin, found.scenario.name) == (
        "ridge",
        "retune",
        "label-incremental",
    )
    assert len(found.scenario.experiences) == 2


def test_a_class_of_no_file_runs_and_says_so(
    tmp_path: Path, backbone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    notebook = ModuleType("a_notebook")
    monkeypatch.setitem(sys.modules, "a_notebook", notebook)
    cells = notebook.__dict__
    exec(OURS, cells)
    first = run(tmp_path / "first", backbone, strategy=cells["Ours"])
    assert first.strategy.origin.startswith("notebook sha256:")
    exec(OURS.replace("self.scale *", "-self.scale *"), cells)
    with pytest.raises(UserError, match="different run"):
        run(tmp_path / "first", backbone, strategy=cells["Ours"])
    with pytest.raises(UserError, match="of this notebook or script alone"):
        retune.suite(strategies=[cells["Ours"]], out=tmp_path / "suite")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (
            {"strategy": dict},
            "option strategy: takes a name.*not this class dict; write one with 'retune new",
        ),
        ({"metrics": [len]}, "option metrics: .*not this builtin_function.*'retune new metric NAME'"),
        ({"backbone": 3}, "option backbone: takes .*not this int$"),
        ({"data": ["phantom"]}, "option data: takes .*not this list$"),
        ({"transfer": retune.Strategy}, "option transfer: takes .*not this class Strategy$"),
        ({"stratgy": "ridge"}, "did you mean strategy"),
        ({"set": {"k": 7}}, "did you mean settings?"),
    ],
)
def test_what_is_no_part_of_a_run_is_told(options: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=told):
        retune.run(**options)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"strategies": [dict]}, "retune.suite, option strategies: takes a name.*not this class dict"),
        ({"strategies": [{"strategy": 3}]}, "retune.suite, option strategies: takes .*not this int"),
        ({"scenarios": 3}, "retune.suite, option scenarios: takes .*not this int"),
        ({"metrics": [len]}, "retune.suite, option metrics: takes"),
        ({"strategy": ["ridge"]}, "retune.suite: unknown option 'strategy'; did you mean strategies"),
        ({"strategys": ["ridge"]}, "did you mean strateg"),
        ({"backbone": "phantom-clip"}, "did you mean backbones"),
    ],
)
def test_what_is_no_part_of_a_suite_is_told(options: dict[str, Any], told: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=told):
        retune.suite(**options, out=tmp_path)


def test_classes_and_instances_stand_for_names(tmp_path: Path) -> None:
    folder = tmp_path / ".pyenv"  # an earlier .py in the path is no file's end
    folder.mkdir()
    towers = module_of(folder / "towers.py", starting_point("towers", "two-towers"))
    worst = module_of(folder / "worst.py", starting_point("worst", "worst-label"))
    backbone, metric = towers.Towers(), worst.Worst()
    backbone.device = "cpu"
    spec = retune.Spec(
        backbone=backbone, metrics=[metric], transfer=retune.registry("transfers").load("segmentation")
    )
    where = f"{folder / 'towers.py'}:Towers"
    assert (spec.backbone, spec.device, spec.transfer) == (where, "cpu", "segmentation")
    assert spec.metrics == (f"{folder / 'worst.py'}:Worst",)
    assert retune.Spec(backbone=towers.Towers).backbone == where
    assert type(retune.load_backbone(towers.Towers)) is towers.Towers
    assert retune.check_metric(metric).passed
    retune.registry("backbones").held.clear()
    assert retune.load_backbone(where).name == "towers"
    hospital = retune.registry("datasets").load("phantom")(images=300)
    scenario = type("Made", (retune.registry("scenarios").load("class-incremental"),), {"name": "made"})
    spec = retune.Spec(
        strategy="ridge", data=hospital, scenario=scenario(steps=2), settings={"data.images": 400}
    )
    planned = retune.plan(spec)
    assert (planned.parts.scenario.name, len(planned.stream.experiences)) == ("made", 2)
    assert planned.parts.source.settings["images"] == 400

    class Sized(towers.Towers):  # type: ignore[name-defined,misc]
        def __init__(self, side: int) -> None:
            self.side = side

    with pytest.raises(UserError, match="Sized takes arguments"):
        retune.Spec(backbone=Sized(3))


def test_help_of_suite_is_of_the_function() -> None:
    told = pydoc.plain(pydoc.render_doc(retune.suite))
    assert {"strategies", "seeds", "settings", "root"} <= set(
        re.findall(r"\w+", told.partition("PACKAGE")[0])
    )
    assert "jobs" in inspect.signature(retune.suite).parameters


def test_a_result_is_a_table(tmp_path: Path, backbone: str, ours) -> None:
    found = run(tmp_path / "one", backbone, strategy=ours[0])
    frame = found.to_frame()
    assert len(frame) == np.size(found.auc_matrix)
    row = frame[(frame.moment == 2) & (frame.label == found.labels[3])].iloc[0]
    assert row[["auc", "low", "high"]].tolist() == [
        found.auc_matrix[2][3],
        found.auc_low[2][3],
        found.auc_high[2][3],
    ]
    assert row.learnt == (0 < found.first[3] <= 2)
    assert len(repr(found)) < 200
    assert "<table>" in found._repr_html_()
    assert found.array("auc_low").tolist() == found.auc_low
    with pytest.raises(UnknownName, match="did you mean auc_matrix"):
        found.array("auc_matrx")
    assert retune.load(tmp_path / "one") == found
    many = retune.load(tmp_path)
    assert [one.run.id for one in many] == [found.run.id]
    assert many.to_frame().final_auc.tolist() == [found.metrics["final_auc"].value]
    drawn = rows_of(found.plot())
    learnt = [row["auc"] for row in drawn if row.get("opacity") == 1]
    assert sorted(learnt) == sorted(frame[frame.learnt].auc)
    assert {row["step"] for row in drawn if "step" in row} == set(range(1, len(found.auc_matrix)))
    told = pydoc.plain(pydoc.render_doc(retune.Result))
    assert {"array(", "plot(", "to_frame(", "auc_matrix:"} <= set(re.findall(r"[a-z_]+[(:]", told))
    assert not re.search(r"model_|validat|__", told)


def test_a_suite_is_a_table_that_continues(tmp_path: Path, backbone: str, ours) -> None:
    text = starting_point("best-label", "worst-label").replace("nanmin", "nanmax")
    metric = module_of(tmp_path / "best_label.py", text)
    scenario = retune.registry("scenarios").load("class-incremental")
    asked: dict[str, Any] = {
        "strategies": [
            "ridge", {"strategy": "ridge", "name": "stiff", "set": {"penalty": 1e8}}, ours[0](scale=-1.0),
            {"strategy": ours[0], "set": {"scale": 2}},
        ],
        "scenarios": [scenario(steps=3)], "backbones": [backbone], "seeds": 2, "replicates": 20,
        "set": {**SETTINGS, "strategy.start": "zeros"}, "out": tmp_path / "suite", "jobs": 1,
        "metrics": [metric.BestLabel()],
    }  # fmt: skip
    table = retune.suite(**asked)
    frame = table.to_frame().set_index("strategy")
    assert frame.n.tolist() == [2, 2, 2, 2]
    apart = {"ours (scale=-1.0)", "ours (scale=2)"}
    assert set(frame.index) == {"ridge", "stiff"} | apart
    assert {len(run.result.scenario.experiences) for run in table.runs} == {3}
    loaded = retune.load(tmp_path / "suite").to_frame()
    assert set(loaded[loaded.strategy == "ours"].settings) == {"scale=-1.0", "scale=2.0"}
    assert set(loaded[loaded.strategy == "ridge"].settings) == {"penalty=100000000.0", "penalty=none"}
    assert not table.failures
    for name in ("ridge", "stiff"):
        of = [run.result.metrics["final_auc"].value for run in table.runs if run.strategy == name]
        assert frame.final_auc[name] == pytest.approx(np.mean(of))
    both = table.compare("ridge", "stiff").iloc[0]
    assert both.difference == pytest.approx(frame.final_auc.ridge - frame.final_auc.stiff)
    assert list(table.best().values()) == [frame.final_auc.idxmax()]
    assert "ridge" in repr(table)
    assert "best-label *" in repr(table)
    best = [
        np.nanmax(np.array(run.result.auc_matrix[-1], float)) for run in table.runs if run.strategy == "ridge"
    ]
    assert frame["own.best-label"].ridge == pytest.approx(np.mean(best))
    of_own = table.compare("ridge", "stiff", "best-label").iloc[0]
    assert of_own.difference == pytest.approx(frame["own.best-label"].ridge - frame["own.best-label"].stiff)
    assert np.isnan(of_own.low)
    assert {row["method"] for row in rows_of(table.plot()) if "step" in row} == {"ridge", "stiff"} | apart
    made = [run.result.run.created for run in table.runs]
    again = retune.suite(**asked)
    assert [run.result.run.created for run in again.runs] == made
    with pytest.raises(UnknownName, match="did you mean stiff"):
        table.compare("ridge", "stif")


def test_what_cannot_be_an_option_is_told_by_its_name() -> None:
    for ask, words in (
        (
            lambda: retune.run("ridge"),
            "takes a Spec or options by their names, not str; write strategy='ridge'",
        ),
        (lambda: retune.run(strategy="ridge", seed="a"), "--seed: 'a' is not whole number"),
        (
            lambda: retune.run(strategy="ridge", settings=["k=3"]),
            "option settings: is list, not a dictionary",
        ),
    ):
        with pytest.raises(UserError, match=re.escape(words)):
            ask()

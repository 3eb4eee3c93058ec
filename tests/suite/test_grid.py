"""From what a user writes to a grid of runs: every combination once, and every mistake told in one line."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from made_suites import planned

from retune.cli.main import main
from retune.errors import UserError
from retune.plugins import registry
from retune.runner.shared import Shared
from retune.scaffold import new_scenario
from retune.suite.grid import Grid, expand
from retune.suite.spec import DataChoice, StrategyChoice, Suite, read_suite


def expanded(**options: Any) -> Grid:
    return expand(read_suite(None, options), Shared())


def test_every_combination_once_seeds_outside_strategies_inside() -> None:
    found = expanded(
        strategies=["zero-shot", "joint", "zero-shot"],
        scenarios=["class-incremental", "data-incremental"],
        orders=["dataset", "random"],
        seeds=[4, 2],
        steps=3,
    )
    runs = [(r.spec.seed, r.scenario, r.order, r.strategy) for r in found.runs]
    assert runs == [
        (seed, scenario, order, strategy)
        for seed in (4, 2)
        for scenario, orders in (("class-incremental", ("dataset", "random")), ("data-incremental", ("",)))
        for order in orders
        for strategy in ("zero-shot", "joint")
    ]
    assert {r.spec.steps for r in found.runs} == {3}
    assert {r.spec.settings.get("scenario.order", "") == r.order for r in found.runs} == {True}


def test_all_is_every_built_in_that_the_backbone_can_carry() -> None:
    built_in = [entry.name for entry in registry("strategies").entries if entry.origin == "retune"]
    found = expanded(scenarios=["class-incremental"], seeds=1)
    carried = [run.strategy for run in found.runs]
    left_out = [skipped.what.partition(" with ")[0] for skipped in found.skipped]
    assert sorted(carried + left_out) == built_in
    assert {"zero-shot", "joint", "re-tune"} <= set(carried)


def test_settings_go_to_whatever_has_them(tmp_path: Path) -> None:
    file = tmp_path / "table.toml"
    file.write_text(
        """
        strategies = ["re-tune", { strategy = "re-tune", name = "shared", set = { adaptors = "shared" } }, "zero-shot"]
        scenarios = ["class-incremental", "data-incremental"]
        seeds = [3]
        time_limit = 60
        [set]
        epochs = 2
        scenario.by = "site"
        data.images = 300
        [strategy."re-tune"]
        lr = 1e-4
        [search.shared]
        batch_size = [16, 32]
        """
    )
    specs = {(r.scenario, r.strategy): r.spec for r in expand(read_suite(file), Shared()).runs}
    assert len(specs) == 6
    plain = {"epochs": 2, "lr": 1e-4, "data.images": 300}
    assert specs["class-incremental", "re-tune"].settings == plain
    assert specs["class-incremental", "shared"].settings == {**plain, "adaptors": "shared"}
    assert specs["data-incremental", "zero-shot"].settings == {"data.images": 300, "scenario.by": "site"}
    assert specs["class-incremental", "shared"].search == {"batch_size": [16, 32]}
    assert specs["class-incremental", "re-tune"].search == {}
    assert {spec.time_limit for spec in specs.values()} == {60}


def test_folders_go_to_their_data_sets_and_files_are_found_beside_the_suite(tmp_path: Path) -> None:
    folder = tmp_path / "deep"
    folder.mkdir()
    (folder / "mine.py").write_text(
        "from retune import Strategy\nclass Mine(Strategy):\n    name = 'mine'\n"
        "    def fit(self, experience): pass\n    def score(self, images): pass\n"
    )
    (folder / "s.toml").write_text(
        'strategies = "mine.py"\nscenarios = "class-incremental"\nseeds = 1\nuncertain = "zeros"\n'
        'data = ["phantom", { data = "chexpert", uncertain = "ones" }, "nih,chexpert"]\n'
        'root = { nih = "nih", chexpert = "/data/chexpert" }\n'
    )
    specs = {r.data: r.spec for r in expand(read_suite(folder / "s.toml"), Shared()).runs}
    assert {spec.strategy for spec in specs.values()} == {str(folder / "mine.py")}
    nih = str(folder / "nih")
    roots = {"phantom": None, "chexpert": {"chexpert": "/data/chexpert"}}
    roots["nih,chexpert"] = {"nih": nih, "chexpert": "/data/chexpert"}
    assert {name: spec.root for name, spec in specs.items()} == roots
    policies = {"phantom": None, "chexpert": "ones", "nih,chexpert": "zeros"}
    assert {name: spec.uncertain for name, spec in specs.items()} == policies


def test_a_published_stream_brings_its_own_data() -> None:
    found = expanded(strategies=["joint"], scenarios=["re-tune-chexpert-5"], seeds=1, root="/data")
    assert [(run.data, run.spec.root) for run in found.runs] == [("chexpert", "/data")]


def test_options_count_in_place_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "table.toml"
    file.write_text('seeds = 5\nstrategies = ["joint"]\n[set]\ndata.images = 300\ndata.size = 64\n')
    read = read_suite(file, {"seeds": 2, "steps": None, "set": {"data.images": "400"}})
    assert read.seeds == [0, 1]
    assert read.settings == {"data.images": "400", "data.size": 64}
    assert [row.strategy for row in read.strategies] == ["joint"]


def test_a_plugin_that_cannot_be_imported_fails_and_the_rest_goes_on(tmp_path: Path) -> None:
    file = tmp_path / "absent.py"
    file.write_text("import nothing_of_that_name\n")
    found = expanded(strategies=[str(file), "zero-shot"], scenarios=["class-incremental"], seeds=2)
    assert [run.strategy for run in found.runs] == ["zero-shot"] * 2
    assert [failure.run.strategy for failure in found.failures] == ["absent"] * 2
    assert "nothing_of_that_name" in found.failures[0].reason


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('strategies = ["retune"]', "did you mean re-tune"),
        ('strategies = ["nowhere.py"]', "there is no file"),
        ('strategies = [{ strategy = "joint", setting = 1 }]', "unknown key 'setting'"),
        ("strategies = []", "strategies"),
        ('scenarios = ["class"]', "unknown scenario 'class'"),
        ('data = ["phantoms"]', "did you mean phantom"),
        ('backbones = ["phantomclip"]', "did you mean phantom-clip"),
        ("seed = 3", "did you mean seeds"),
        ("seeds = 0", "key seeds: 0 is below 1"),
        ('seeds = "many"', "key seeds"),
        ("seeds = [-1]", "key seeds.0"),
        ('orders = ["alphabet"]', "key orders.0"),
        ('scenarios = ["data-incremental"]\norders = ["random"]', "no scenario here has the setting order"),
        ("[set]\nepoch = 3", "did you mean epochs"),
        ("[set]\ndata.image = 3", "did you mean images"),
        ("[set]\nstream.by = 3", "starts with none of"),
        ('[set]\nscenario.orders = "random"', "did you mean order"),
        ("[set]\nlr = 'quick'", "setting lr"),
        ('[strategy."re-tun"]\nlr = 1', "did you mean re-tune"),
        ('[search."re-tune"]\nlr = 1e-3', "key search.re-tune.lr"),
        ('[root]\nnih = "/data"', "unknown data set 'nih'"),
        ('uncertain = "ones"', "--uncertain"),
        ("time_limit = 0", "key time_limit"),
        ("seeds = [", "is not TOML"),
    ],
)
def test_mistakes_are_told_in_one_line_before_anything_runs(text: str, words: str, tmp_path: Path) -> None:
    file = tmp_path / "table.toml"
    file.write_text(text)
    with pytest.raises(UserError) as caught:
        expand(read_suite(file), Shared())
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there() -> None:
    with pytest.raises(UserError, match=r"nowhere\.toml: cannot be read"):
        read_suite("nowhere.toml")


@pytest.mark.parametrize(
    "rows",
    [
        {"strategies": ["ridge", {"strategy": "ridge", "search": {"penalty": [1.0]}}]},
        {"strategies": ["all", {"strategy": "ridge", "set": {"penalty": 1.0}}]},
        {"strategies": ["ridge", {"strategy": "joint", "name": "ridge"}]},
    ],
)
def test_two_runs_of_one_name_are_refused_before_anything_runs(rows: dict[str, Any]) -> None:
    with pytest.raises(
        UserError, match=r"two different runs are called 'ridge on phantom.*; give one of the"
    ):
        expanded(**rows)


def test_choices_of_one_part_are_told_apart_by_their_settings() -> None:
    ridge = registry("strategies").load("ridge")
    found = expanded(
        strategies=[
            "ridge",
            {"strategy": "ridge", "set": {"penalty": 1.0}},
            ridge(penalty=2.0, start="zeros"),
        ],
        scenarios=[
            {"scenario": "class-incremental", "set": {"steps": 2}},
            {"scenario": "class-incremental", "set": {"steps": 3}},
            {"scenario": "class-incremental", "name": "mine", "set": {"seed": 4}},
        ],
        data=["phantom", {"data": "phantom", "set": {"images": 300}}],
        seeds=1,
        steps=7,
    ).runs
    assert {run.strategy for run in found} == {
        "ridge", "ridge (penalty=1.0)", "ridge (start=zeros, penalty=2.0)",
    }  # fmt: skip
    assert {(run.scenario, run.spec.settings.get("scenario.steps"), run.spec.steps) for run in found} == {
        ("class-incremental (steps=2)", 2, None),
        ("class-incremental (steps=3)", 3, None),
        ("mine", None, 7),
    }
    assert {run.data for run in found} == {"phantom", "phantom (images=300)"}


def test_a_scenario_of_ones_own_is_called_by_its_name(tmp_path: Path) -> None:
    file = new_scenario("women-first", tmp_path / "women_first.py")
    (run,) = expanded(scenarios=[str(file)], strategies=["ridge"], seeds=1).runs
    assert run.scenario == "women-first"


def test_the_same_twice_is_run_once() -> None:
    once = expanded(strategies=["ridge"]).runs
    assert expanded(strategies=["ridge", {"strategy": "ridge"}]).runs == once


def test_help_names_every_key_of_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["suite", "--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    told = text[text.index("Keys of FILE:") :].split("skip_bad_images")[0] + "skip_bad_images"
    words = set(re.findall(r"\w+", told))
    for part in (Suite, StrategyChoice, DataChoice):
        assert {field.alias or name for name, field in part.model_fields.items()} <= words


def plugin(file: Path, name: str, rate: float = 0.5) -> str:
    file.parent.mkdir(exist_ok=True)
    file.write_text(
        f'"""A plugin."""\nfrom dataclasses import dataclass\nfrom retune import Strategy\n\n@dataclass\n'
        f"class Mine(Strategy):\n    name = '{name}'\n    presets = {{'fast': {{'rate': 1.0}}}}\n"
        f"    rate: float = {rate}\n"
        "    def fit(self, experience): pass\n    def score(self, images): pass\n"
    )
    return str(file)


def called(*strategies: str, **keys: Any) -> list[str]:
    found = expanded(strategies=list(strategies), scenarios=["class-incremental"], seeds=1, **keys)
    return [run.strategy for run in found.runs]


def test_a_preset_of_a_file_is_another_s_code(tmp_path: Path) -> None:
    file = plugin(tmp_path / "my_method.py", "mine")
    plans = planned(tmp_path, [file, f"{file}/fast", "zero-shot", "re-tune/paper"], seeds=1)
    origins = {job.run.spec.strategy: job.origin for job in plans.jobs}
    assert origins == {
        file: file,
        f"{file}/fast": f"{file}/fast",
        "zero-shot": "retune",
        "re-tune/paper": "retune",
    }


def test_a_plugin_is_called_by_its_name_and_not_by_its_file(tmp_path: Path) -> None:
    file = plugin(tmp_path / "my_method.py", "mine")
    assert called(file, f"{file}/fast", "re-tune/paper") == ["mine", "mine/fast", "re-tune/paper"]
    for name in ("mine", "my_method", file):
        found = expanded(
            strategies=[file],
            scenarios=["class-incremental"],
            seeds=1,
            search={name: {"rate": [0.1, 0.2]}},
        )
        assert [run.spec.search for run in found.runs] == [{"rate": [0.1, 0.2]}], name


def test_plugins_of_one_name_are_told_apart(tmp_path: Path) -> None:
    one, two = plugin(tmp_path / "one.py", "mine"), plugin(tmp_path / "two.py", "mine", 0.25)
    assert called(one, two) == ["mine (one.py)", "mine (two.py)"]
    here, there = plugin(tmp_path / "a" / "m.py", "mine"), plugin(tmp_path / "b" / "m.py", "mine", 0.25)
    assert called(here, there) == ["mine (a/m.py)", "mine (b/m.py)"]
    posing = plugin(tmp_path / "three.py", "zero-shot")
    assert called("zero-shot", posing) == ["zero-shot", "zero-shot (three.py)"]
    assert called("all", posing)[-1] == "zero-shot (three.py)"

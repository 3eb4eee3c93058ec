"""The registry: names are files, and nothing is imported to list them."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from types import SimpleNamespace

import pytest

from retune import Strategy
from retune.errors import UnknownName, UserError
from retune.plugins import Registry, registry

MINE = """
import torch
from retune import Strategy

class Mine(Strategy):
    name = "mine"

    def fit(self, experience):
        pass

    def score(self, images):
        return torch.zeros(len(images), len(self.context.labels))
"""


def test_built_in_names_are_files() -> None:
    assert set(registry("strategies").names()) >= {"zero-shot", "re-tune", "linear-probe", "joint"}
    assert set(registry("scenarios").names()) >= {
        "class-incremental",
        "label-incremental",
        "data-incremental",
    }
    assert registry("strategies").load("re-tune").__module__ == "retune.strategies.re_tune"


def test_listing_imports_neither_torch_nor_plugins() -> None:
    code = (
        "import sys, retune\n"
        "from retune.catalog import KINDS, listing\n"
        "print([kind for kind in KINDS if not listing(kind)])\n"
        "print([m for m in sys.modules if m == 'torch' or m.startswith(('retune.strategies.', 'retune.scenarios.'))])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["['metrics']", "[]"]


def test_an_unknown_name_offers_the_nearest() -> None:
    with pytest.raises(UnknownName, match="unknown strategy 're-tunes'; did you mean re-tune"):
        registry("strategies").load("re-tunes")


@pytest.mark.parametrize("file", ["my_method.py", "my-method.py"])
def test_an_unknown_name_that_is_a_file_here_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UnknownName):
        registry("strategies").load("my-method")
    Path(file).write_text(MINE)
    with pytest.raises(UserError, match=rf"unknown strategy 'my-method'; did you mean the file \./{file}\?"):
        registry("strategies").load("my-method")


def test_a_local_file_needs_no_installation(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(MINE)
    cls = registry("strategies").load(str(file))
    assert issubclass(cls, Strategy)
    assert cls.name == "mine"
    file.write_text(MINE + MINE.replace("Mine", "Other"))
    with pytest.raises(UserError, match=r"Mine, Other; write FILE\.py:CLASS"):
        registry("strategies").load(str(file))
    assert registry("strategies").load(f"{file}:Other").__name__ == "Other"


def test_a_file_imports_what_lies_beside_it(tmp_path: Path) -> None:
    before, files = list(sys.path), []
    for folder in (tmp_path / "one", tmp_path / "two"):
        folder.mkdir()
        (folder / "aid_of_mine.py").write_text(f"WHERE = {folder.name!r}\n")
        files.append(folder / "mine.py")
        files[-1].write_text("from aid_of_mine import WHERE\n" + MINE.replace('"mine"', "WHERE"))
    load = registry("strategies").load
    # Each its own, in one process, whichever came before it; and the one that is there now.
    assert [load(str(file)).name for file in (*files, files[0])] == ["one", "two", "one"]
    (tmp_path / "one" / "aid_of_mine.py").write_text("WHERE = 'there now'\n")
    assert load(str(files[0])).name == "there now"
    assert [place for place in sys.path if place not in before] == [str(tmp_path / "one")]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("import nothing_of_that_name", "cannot be imported (ModuleNotFoundError"),
        ("def broken(:", "cannot be imported (SyntaxError"),
        ("x = 1", "holds not one strategy class but none"),
        (MINE.replace("def score", "def scores"), "Mine lacks score"),
        ("import sys\nsys.exit(0)", "cannot be imported (SystemExit"),
    ],
)
def test_a_broken_file_is_told_in_one_line(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "mine.py"
    file.write_text(text)
    with pytest.raises(UserError) as caught:
        registry("strategies").load(str(file))
    assert words in str(caught.value)
    assert "mine.py" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_line_of_a_plugin_that_fails_on_import_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last line of the plugin's own that led there, also where the fault is found elsewhere."""
    file = tmp_path / "mine.py"
    file.write_text("import json\n\ndef read():\n    return json.loads('{')\n\nread()\n")
    monkeypatch.chdir(tmp_path)
    for name in (str(file), "mine.py"):
        with pytest.raises(UserError, match=rf"^{name}, line 4: cannot be imported \(JSONDecodeError"):
            registry("strategies").load(name)
    package = tmp_path / "their_package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "method.py").write_text("x = 1\ny = x / 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    point = _point("theirs", "their_package.method:Method", "their-package")
    monkeypatch.setattr("retune.plugins.entry_points", lambda group: [point])
    where = r"strategy 'theirs' of their-package, method\.py, line 2: cannot be imported \(ZeroDivision"
    with pytest.raises(UserError, match=where):
        Registry("strategies").load("theirs")


def test_a_missing_file() -> None:
    with pytest.raises(UserError, match=r"there is no file nowhere\.py"):
        registry("strategies").load("nowhere.py")


class _Dist:
    def __init__(self, name: str) -> None:
        self.name = name


def _point(name: str, value: str, dist: str) -> EntryPoint:
    point = EntryPoint(name, value, "retune.strategies")
    vars(point)["dist"] = _Dist(dist)
    return point


def test_an_entry_point_of_another_library_s_class_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """What importlib_metadata finds, once it is imported, are entry points of its own."""
    point = _point("another", "retune.strategies.zero_shot:ZeroShot", "their-package")
    facts = {name: getattr(point, name) for name in ("name", "value", "module", "attr", "dist", "load")}
    monkeypatch.setattr("retune.plugins.entry_points", lambda group: [SimpleNamespace(**facts)])
    known = Registry("strategies")
    assert known.hold(known.load("another")) == "another"


def test_distributions_and_clashes(monkeypatch: pytest.MonkeyPatch) -> None:
    points = [
        _point("theirs", "retune.strategies.zero_shot:ZeroShot", "their-package"),
        _point("joint", "retune.strategies.zero_shot:ZeroShot", "their-package"),
        _point("broken", "no_such_module:X", "bad-package"),
        _point("wrong", "pathlib:Path", "bad-package"),
    ]
    monkeypatch.setattr(
        "retune.plugins.entry_points", lambda group: points if group == "retune.strategies" else []
    )
    known = Registry("strategies")
    assert known.load("theirs").__name__ == "ZeroShot"
    assert known.origin("theirs") == "their-package"
    with pytest.raises(UserError, match="write retune/joint or their-package/joint"):
        known.load("joint")
    assert known.load("their-package/joint").__name__ == "ZeroShot"
    assert known.load("retune/joint").__name__ == "Joint"
    assert "retune/joint" in known.names()
    # A broken plugin breaks only the run that selects it, and its distribution is named.
    assert "broken" in known.names()
    with pytest.raises(UserError, match=r"strategy 'broken' of bad-package: cannot be imported"):
        known.load("broken")
    with pytest.raises(
        UserError, match=r"bad-package: is not a subclass of retune\.methods\.strategy\.Strategy"
    ):
        known.load("wrong")

"""One lazy registry for data sets, backbones, scenarios, strategies, transfers and metrics of one's own.

A built-in name is a file: strategy ``re-tune`` is ``strategies/re_tune.py``, and ``der++`` is
``strategies/der_plus_plus.py``. Others come from
installed distributions through entry points, or from a local file. Names are listed without
importing anything.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.machinery import SourceFileLoader
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, Final, Literal

from retune.errors import PluginError, RetuneError, UnknownName, UserError

Kind = Literal["datasets", "backbones", "scenarios", "strategies", "transfers", "metrics"]
Noun = Literal["data set", "backbone", "scenario", "strategy", "transfer", "metric"]
BUILT_IN: Final = "retune"
"""The origin of what retune itself brings."""
NOTEBOOK: Final = "notebook:"
"""Before the name of a class that no file holds."""

_ROOMS: Final[dict[str, tuple[str, str]]] = {
    "datasets": ("retune.data.readers", "retune.data.readers.base:Reader"),
    "backbones": ("retune.backbones.models", "retune.backbones.base:Backbone"),
    "scenarios": ("retune.scenarios", "retune.streams.stream:Scenario"),
    "strategies": ("retune.strategies", "retune.methods.strategy:Strategy"),
    "transfers": ("retune.transfers", "retune.transfers.base:Transfer"),
    "metrics": ("retune.metrics.own", "retune.metrics.own.base:OwnMetric"),
}
_SINGULAR: Final[dict[Kind, Noun]] = {
    "datasets": "data set",
    "backbones": "backbone",
    "scenarios": "scenario",
    "strategies": "strategy",
    "transfers": "transfer",
    "metrics": "metric",
}


class _AsItIs(SourceFileLoader):
    """Compiles a file as it stands: no byte code is left beside it, and none of an earlier second is taken for it."""

    def get_code(self, fullname: str) -> CodeType:
        return self.source_to_code(self.get_data(self.path), self.path)


@dataclass(frozen=True)
class Entry:
    """One registered name.

    Args:
        name: What users type.
        origin: :data:`BUILT_IN` or the distribution that brings it.
        target: The file of a built-in, or the entry point of a distribution.
    """

    name: str
    origin: str
    target: Path | EntryPoint

    @property
    def summary(self) -> str:
        """First line of a built-in's docstring, read without importing it."""
        if isinstance(self.target, Path):
            doc = ast.get_docstring(ast.parse(self.target.read_text(encoding="utf-8"))) or ""
            return doc.split("\n", 1)[0]
        return self.target.value


class Registry:
    """The names of one kind; made by :func:`registry`."""

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self.noun = _SINGULAR[kind]
        self._package, self._base = _ROOMS[kind]
        self.held: dict[str, type[Any]] = {}
        """Classes that were handed over rather than named."""

    @cached_property
    def entries(self) -> tuple[Entry, ...]:
        """Every name with its origin, sorted; a name may stand twice with two origins."""
        found = [
            Entry(path.stem.replace("_plus", "+").replace("_", "-"), BUILT_IN, path)
            for folder in _folders(self._package)
            for path in folder.glob("*.py")
            if not path.stem.startswith("_") and path.stem != "base"
        ]
        for point in entry_points(group=f"retune.{self.kind}"):
            found.append(Entry(point.name, point.dist.name if point.dist else "unknown", point))
        return tuple(sorted(found, key=lambda entry: (entry.name, entry.origin)))

    def names(self) -> tuple[str, ...]:
        """The names a user can type, sorted; clashing ones as ``origin/name``."""
        plain = [entry.name for entry in self.entries]
        return tuple(e.name if plain.count(e.name) == 1 else f"{e.origin}/{e.name}" for e in self.entries)

    def find(self, name: str) -> Entry:
        """The entry of a name, without importing it.

        Raises:
            UnknownName: If there is none.
            UserError: If two distributions bring the name.
        """
        matches = [e for e in self.entries if name in (e.name, f"{e.origin}/{e.name}")]
        if not matches and (file := _file_of(name)):
            raise UserError(f"unknown {self.noun} '{name}'", fix=f"did you mean the file {file}?")
        if not matches:
            raise UnknownName(self.noun, name, self.names())
        if len(matches) > 1:
            ways = " or ".join(f"{e.origin}/{e.name}" for e in matches)
            raise UserError(f"two {self.kind} are called '{name}'", fix=f"write {ways}")
        return matches[0]

    def has(self, cls: type[Any]) -> bool:
        """Whether a class is of this kind."""
        return issubclass(cls, self._base_class())

    def hold(self, cls: type[Any]) -> str:
        """Let a class that is already there be found by a name: its registered one, else ``FILE.py:CLASS``.

        A class that no file holds, of a notebook or made by ``type()``, is found by this process alone.

        Args:
            cls: A plugin's class.

        Raises:
            UserError: If it is not of this kind, or lacks something.
        """
        self._checked(cls, cls.__name__)
        for entry, name in zip(self.entries, self.names(), strict=True):
            at = entry.target
            home = f"{self._package}.{at.stem}" if isinstance(at, Path) else at.module
            if cls.__module__ == home and (isinstance(at, Path) or at.attr == cls.__name__):
                return name
        module = sys.modules.get(cls.__module__)
        file, found = getattr(module, "__file__", None), getattr(module, cls.__name__, None)
        # The file may have been imported again since.
        there = getattr(found, "__qualname__", "") == cls.__qualname__
        name = f"{file}:{cls.__name__}" if file and there and is_file(file) else f"{NOTEBOOK}{cls.__name__}"
        self.held[name] = cls
        return name

    def load(self, name: str) -> type[Any]:
        """Import the class of a name, of ``FILE.py`` or of ``FILE.py:CLASS``.

        Raises:
            UserError: If the name is unknown or ambiguous, or its plugin cannot be imported.
        """
        if name in self.held:
            return self.held[name]
        if is_file(name):
            return self._load_file(name)
        entry = self.find(name)
        where = f"{self.noun} '{name}' of {entry.origin}"
        # Another library's metadata may have entry points of its own class, in place of Python's.
        if not isinstance(entry.target, Path):
            home = _home(entry.target.module.partition(".")[0])
            return self._checked(_guarded(entry.target.load, where, home), where)
        name_of_module = f"{self._package}.{entry.target.stem}"
        module = _guarded(lambda: importlib.import_module(name_of_module), where, entry.target)
        return self._only_class(module, where)

    def load_preset(self, name: str) -> tuple[type[Any], str, Mapping[str, Any]]:
        """The class of a name, its plain name, and the settings of the preset that the name asks for.

        Args:
            name: As for :meth:`load`, or a preset of it: ``NAME/PRESET``, ``FILE.py/PRESET``. A class has its presets
                in ``presets``: settings by the preset's name.

        Raises:
            UserError: If there is no such name or preset.
        """
        head, slash, preset = name.rpartition("/")
        of_file = is_file(head) and not is_file(preset)
        if not of_file and not any(slash and head in (e.name, f"{e.origin}/{e.name}") for e in self.entries):
            return self.load(name), name, {}
        found = self.load(head)
        return found, head, preset_of(found, preset, f"{self.noun} {head}")

    def origin(self, name: str) -> str:
        """Who brings a name: ``"retune"``, a distribution, ``"local file"``, or a notebook with a digest of the code."""
        if name.startswith(NOTEBOOK) and name in self.held:
            return f"notebook sha256:{_compiled(self.held[name])}"
        return "local file" if is_file(name) else self.find(name).origin

    def _load_file(self, name: str) -> type[Any]:
        path, class_name = path_of(name), _split(name)[1]
        if not path.is_file():
            raise UserError(f"there is no file {path}", where=f"{self.noun} '{name}'")
        where = str(path)
        module_name = f"retune_local_{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]}"
        loader = _AsItIs(module_name, str(path.absolute()))
        spec = importlib.util.spec_from_file_location(module_name, path, loader=loader)
        assert spec is not None
        module = importlib.util.module_from_spec(spec)
        # Dataclasses look their own module up by name.
        sys.modules[module_name] = module
        with _beside(path.resolve().parent):
            _guarded(lambda: loader.exec_module(module), where, path.absolute())
        if class_name:
            if not hasattr(module, class_name):
                raise UserError(f"there is no class {class_name}", where=where)
            return self._checked(getattr(module, class_name), where)
        return self._only_class(module, where)

    def _only_class(self, module: ModuleType, where: str) -> type[Any]:
        base = self._base_class()
        own = [
            member
            for member in vars(module).values()
            if inspect.isclass(member)
            and issubclass(member, base)
            and member.__module__ == module.__name__
            and not member.__name__.startswith("_")
        ]
        # Of an unfinished one it is said below what it lacks.
        found = [member for member in own if not inspect.isabstract(member)] or own
        if len(found) != 1:
            names = ", ".join(member.__name__ for member in found) or "none"
            fix = "write FILE.py:CLASS" if found else f"define a subclass of {self._base.replace(':', '.')}"
            raise UserError(f"holds not one {self.noun} class but {names}", where=where, fix=fix)
        return self._checked(found[0], where)

    def _checked(self, loaded: Any, where: str) -> type[Any]:
        base = self._base_class()
        if not (inspect.isclass(loaded) and issubclass(loaded, base)):
            raise UserError(f"is not a subclass of {self._base.replace(':', '.')}", where=where)
        facts = (fact for fact, hint in inspect.get_annotations(base).items() if "ClassVar" in str(hint))
        missing = [
            *sorted(getattr(loaded, "__abstractmethods__", ())),
            *(fact for fact in facts if not hasattr(loaded, fact)),
        ]
        if missing:
            raise UserError(f"{loaded.__name__} lacks {', '.join(missing)}", where=where)
        return loaded

    def _base_class(self) -> type[Any]:
        module, _, name = self._base.partition(":")
        base: type[Any] = getattr(importlib.import_module(module), name)
        return base


def preset_of(cls: type[Any], preset: str, owner: str) -> Mapping[str, Any]:
    """The settings of a class's preset.

    Raises:
        UserError: If there is none of that name.
    """
    presets: Mapping[str, Mapping[str, Any]] = cls.presets
    if not presets:
        raise UserError(f"{owner} has no presets", fix=f"leave '/{preset}' out")
    if preset not in presets:
        raise UnknownName(f"preset of {owner}", preset, presets)
    return presets[preset]


def is_file(name: str) -> bool:
    """Whether a plugin is addressed as a local Python file."""
    return name.endswith(".py") or ".py:" in name


def _split(name: str) -> tuple[str, str]:
    """The file and the class of ``FILE.py:CLASS``; of ``FILE.py`` no class. A folder may be called ``.pyenv``."""
    if name.endswith(".py"):
        return name, ""
    file, _, wanted = name.rpartition(".py:")
    return f"{file}.py", wanted


def path_of(name: str) -> Path:
    """The file of ``FILE.py`` or ``FILE.py:CLASS``."""
    return Path(_split(name)[0]).expanduser()


def code_of_file(name: str) -> str:
    """Digest of a plugin's file and of what it imports, itself or by one another, of the files beside it or below.

    Args:
        name: ``FILE.py`` or ``FILE.py:CLASS``.
    """
    path = path_of(name).resolve()
    return _digest(path, path.parent, path.parent, ())


def code_of(kind: Kind, name: str, cls: type[Any]) -> str:
    """Digest of a plugin's code where its name and origin do not tell; nothing of what retune itself brings."""
    if is_file(name):
        return code_of_file(name)
    if name.startswith(NOTEBOOK):
        return _compiled(cls)
    return "" if registry(kind).origin(name) == BUILT_IN else code_of_class(cls)


def code_of_class(cls: type[Any]) -> str:
    """Digest of an installed plugin's module and of what it imports, itself or by one another, of its own package.

    Args:
        cls: The plugin.
    """
    path, parts = Path(sys.modules[cls.__module__].__file__ or "").resolve(), cls.__module__.split(".")
    if not path.is_file():  # Of an archive.
        return ""
    root = path.parents[len(parts) - (path.name != "__init__.py")]
    return _digest(path, root, root / parts[0], [cls.__module__])


def _compiled(cls: type[Any]) -> str:
    """Digest of what a class's functions do and what it holds, where there is no file to read."""
    digest = hashlib.sha256()

    def add(value: object) -> None:
        code = getattr(getattr(value, "__func__", value), "__code__", value)
        if isinstance(code, CodeType):
            digest.update(code.co_code + repr(code.co_names).encode())
            for constant in code.co_consts:
                add(constant)
        else:
            digest.update(
                repr(value).encode() if isinstance(value, str | int | float | tuple | None) else b""
            )

    for name, value in sorted(vars(cls).items()):
        digest.update(name.encode())
        add(value)
    return digest.hexdigest()[:16]


def _digest(path: Path, root: Path, home: Path, names: Iterable[str]) -> str:
    """Of a file and of the files of a folder that it needs.

    Args:
        path: The file.
        root: Where its imports begin.
        home: The folder.
        names: Modules that it needs beside those that it imports.
    """
    found = {one for name in names for one in _own(name, root, home)} - {path}
    left = [path, *found]
    while left:
        file = left.pop()
        fresh = {one for name in _imports(file, root) for one in _own(name, root, home)} - found - {path}
        found |= fresh
        left += fresh
    digest = hashlib.sha256(path.read_bytes())
    for helper in sorted(found):
        digest.update(hashlib.sha256(helper.read_bytes()).digest())
    return digest.hexdigest()[:16]


def _imports(file: Path, root: Path) -> Iterator[str]:
    """Dotted names of whatever a file imports, at any place in it."""
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError):  # What cannot be compiled is imported by nobody.
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            home = (
                ".".join(file.relative_to(root).parent.parts[: 1 - node.level or None]) if node.level else ""
            )
            base = ".".join(part for part in (home, node.module) if part)
            yield from (f"{base}.{alias.name}".lstrip(".") for alias in node.names)


def _own(name: str, root: Path, home: Path) -> Iterator[Path]:
    """The files of a module and of the packages it lies in, where they lie in a plugin's folder."""
    parts = name.split(".")
    if parts[0] in sys.stdlib_module_names:
        return
    for k in range(1, len(parts) + 1):
        module = sys.modules.get(".".join(parts[:k]))
        below = root.joinpath(*parts[:k])
        loaded = getattr(module, "__file__", None)
        for file in (Path(loaded) if loaded else below, below.with_suffix(".py"), below / "__init__.py"):
            if file.suffix == ".py" and file.is_file() and home in file.resolve().parents:
                yield file.resolve()


@cache
def registry(kind: Kind) -> Registry:
    """The registry of one kind of plugin."""
    return Registry(kind)


def _folders(package: str) -> list[Path]:
    spec = importlib.util.find_spec(package)
    return [Path(p) for p in (spec.submodule_search_locations or [])] if spec else []


def _file_of(name: str) -> str:
    """The file in the working directory that a name may have been meant for; nothing where there is none."""
    stem = name.replace("-", "_")
    found = (f"./{stem}.py" for stem in (stem, name) if "/" not in stem and Path(f"{stem}.py").is_file())
    return next(found, "")


def _home(module: str) -> Path | None:
    """The folder of a package, or the file of a module; not imported for it."""
    spec = importlib.util.find_spec(module)
    if spec is None:
        return None
    folder = next(iter(spec.submodule_search_locations or ()), spec.origin)
    return Path(folder) if folder else None


def _guarded(load: Callable[[], Any], where: str, home: Path | None) -> Any:
    """Run a plugin's import; whatever it raises is the plugin's fault, told in one line, and it prints aside.

    Args:
        load: Imports it.
        where: What it is called.
        home: Its file or folder: the last line there that led to an error is told too.
    """
    try:
        with redirect_stdout(sys.stderr):
            return load()
    except (Exception, SystemExit) as error:
        place = f"{where}{_line(error, where, home)}"
        raise UserError(f"cannot be imported ({type(error).__name__}: {error})", where=place) from error


@contextmanager
def blamed(part: object, noun: Noun, doing: str) -> Iterator[None]:
    """Say in one line where a plugin failed; what retune's own parts raise by mistake is left as it is.

    Args:
        part: The plugin, or its class.
        noun: What it is.
        doing: What it was asked to do.

    Raises:
        PluginError: If it raised anything; what retune raises on purpose passes.
    """
    try:
        yield
    except RetuneError:
        raise
    except (Exception, SystemExit) as error:
        if is_ours(part):
            raise
        name = getattr(part, "name", None) or getattr(part, "__name__", type(part).__name__)
        raise PluginError(f"failed in {doing}: {raised(error, part)}", where=f"{noun} {name}") from error


def is_ours(part: object) -> bool:
    """Whether a class, or an instance of one, is of retune's own code."""
    return part.__module__.startswith("retune.")


def raised(error: BaseException, part: object) -> str:
    """What was raised, cut, and the last line of a plugin's own file that led to it, else the last of all."""
    frames = traceback.extract_tb(error.__traceback__)
    own = getattr(sys.modules.get(part.__module__), "__file__", None)
    last = next((frame for frame in reversed(frames) if frame.filename == own), frames[-1])
    what = " ".join(f"{type(error).__name__}: {error}".split())
    return f"{what[:300]} ({Path(last.filename).name}, line {last.lineno})"


@contextmanager
def _beside(folder: Path) -> Iterator[None]:
    """Let a plugin's file import what lies beside it, as a script may; what is installed comes first."""
    # Helpers of another plugin may have the same names, and this one's may have changed.
    for name in _helpers:
        sys.modules.pop(name, None)
    _helpers.clear()
    importlib.invalidate_caches()
    sys.path[:] = [place for place in sys.path if place not in _searched]
    _searched.clear()
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
        _searched.add(str(folder))
    before = set(sys.modules)
    try:
        yield
    finally:
        for name in set(sys.modules) - before:
            file = getattr(sys.modules[name], "__file__", None)
            if file and folder in Path(file).resolve().parents:
                _helpers.add(name)


_helpers: set[str] = set()
"""Modules that the plugin's file that was loaded last has brought."""
_searched: set[str] = set()
"""Its folder, where that would not be looked into otherwise."""


def _line(error: BaseException, where: str, home: Path | None) -> str:
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        file = Path(frame.filename)
        if home in (file, *file.parents):
            return (
                f", line {frame.lineno}"
                if where.endswith(file.name)
                else f", {file.name}, line {frame.lineno}"
            )
    return ""

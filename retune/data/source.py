"""From ``--data`` and ``--root`` to the table: one data set, or several as one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any

from retune.data.chexpert_labels import Blank, Uncertain
from retune.data.dataset import Dataset
from retune.data.readers.base import Reader
from retune.data.several import SeveralReader
from retune.data.shares import Share
from retune.errors import BadSetting, MissingFiles, UnknownName
from retune.plugins import blamed, registry
from retune.settings import make, settings_of, values_of


@dataclass(frozen=True)
class DataSource:
    """Readers and where their files are; nothing has been read yet.

    Args:
        readers: One per data set, in the order named.
        roots: Folder of each, by name; None for those without files.
        prompts: The prompt bank that a preset or a data set names, for runs that name none; ``""`` where none does.
        shares: How much is used of the training part of each, by name; all where nothing is said.
    """

    readers: tuple[Reader, ...]
    roots: Mapping[str, Path | None]
    prompts: str = ""
    shares: Mapping[str, Share] = field(default_factory=dict)

    @classmethod
    def make(
        cls,
        data: str,
        root: str | Path | Mapping[str, str | Path] | None,
        given: Mapping[str, Any] | None = None,
        *,
        uncertain: Uncertain | None = None,
        blank: Blank | None = None,
    ) -> DataSource:
        """Make the readers of one or more data sets.

        Args:
            data: Names with commas between; ``phantom/large`` is phantom with the settings of its preset ``large``.
            root: A folder, of several data sets one that holds a folder of each name; or one by name.
            given: Settings: plain ones for every data set that has them, ``nih.views`` for one.
            uncertain: What uncertain labels count as, in every data set that knows such.
            blank: What labels not mentioned count as, likewise.

        Raises:
            UserError: If a name or a setting is wrong.
        """
        found = [registry("datasets").load_preset(name.strip()) for name in data.split(",")]
        names = [name for _, name, _ in found]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise BadSetting(
                f"{twice} is named more than once", where="--data", fix="name each data set once"
            )
        classes: dict[str, type[Reader]] = {name: cls_ for cls_, name, _ in found}
        presets = {name: dict(preset) for _, name, preset in found}
        banks = [preset.pop("prompts") for preset in presets.values() if "prompts" in preset]
        banks += [cls_.prompts for cls_ in classes.values() if cls_.prompts]
        shared = dict(given or {})
        for option, value in (("uncertain", uncertain), ("blank", blank)):
            if value is not None:
                if not any(option in {s.name for s in settings_of(cls_)} for cls_ in classes.values()):
                    raise BadSetting(
                        f"{data} has no {option} labels", where=f"--{option}", fix="leave it out"
                    )
                if option in shared:
                    raise BadSetting(
                        f"says {value}, and data.{option} says {shared[option]}",
                        where=f"--{option}",
                        fix="give one of them",
                    )
                shared[option] = value
        settings = _by_name(classes, shared)
        made = {name: _made(cls_, presets[name] | settings[name], name) for name, cls_ in classes.items()}
        readers = tuple(reader for reader, _ in made.values())
        roots = dict(zip((r.name for r in readers), _roots(classes, root), strict=True))
        shares = {reader.name: share for reader, share in made.values()}
        return cls(readers, roots, next(iter(banks), ""), shares)

    @property
    def name(self) -> str:
        """The data sets' names with commas between."""
        return ",".join(reader.name for reader in self.readers)

    @property
    def origins(self) -> tuple[str, ...]:
        """Names of the public data sets whose images these are."""
        return tuple(name for reader in self.readers for name in (reader.name, *reader.part_of))

    @property
    def settings(self) -> dict[str, Any]:
        """The reader's settings; of several data sets, theirs by name."""
        settings = {r.name: values_of(r) | values_of(self.shares.get(r.name, Share())) for r in self.readers}
        return settings[self.readers[0].name] if len(self.readers) == 1 else settings

    def read(self) -> Dataset:
        """Read the tables; no picture is opened.

        Raises:
            UserError: If files are missing or wrong, in one line.
        """
        return SeveralReader(self.readers, self.shares).read(self.roots)


def _made(cls: type[Reader], given: Mapping[str, Any], name: str) -> tuple[Reader, Share]:
    """A reader, and what share of its training part is asked for; a setting that it has itself is its own."""
    own: set[str] = {f.name for f in fields(cls)} if is_dataclass(cls) else set()
    beside = {key: value for key, value in given.items() if key in ("share", "draw") and key not in own}
    rest = {key: value for key, value in given.items() if key not in beside}
    owner = f"data set {name}"
    with blamed(cls, "data set", "__init__"):
        return make(cls, rest, owner=owner), make(cls.beside, beside, owner=owner)


def _by_name(classes: Mapping[str, type[Reader]], given: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Settings of each data set; those for all go to the ones that have them."""
    known = {name: {s.name for s in settings_of(cls)} for name, cls in classes.items()}
    found: dict[str, dict[str, Any]] = {name: {} for name in classes}
    for key, value in given.items():
        name, dot, setting = key.partition(".")
        if dot and name in found:
            found[name][setting] = value
            continue
        having = [n for n in classes if key.replace("-", "_") in known[n]]
        if not having:
            what = "data set" if len(classes) == 1 else "data sets"
            every = {setting for names in known.values() for setting in names}
            raise UnknownName("setting", key, every, where=f"{what} {', '.join(classes)}")
        for n in having:
            found[n].setdefault(key, value)
    return found


def _roots(
    classes: Mapping[str, type[Reader]], root: str | Path | Mapping[str, str | Path] | None
) -> list[Path | None]:
    takers = [name for name, cls in classes.items() if cls.takes_root]
    if root is not None and not takers:
        raise BadSetting(
            f"data set {', '.join(classes)} has no files",
            where="--root",
            fix="name the data set with --data",
        )
    if isinstance(root, Mapping):
        for name in root:
            if name not in classes:
                raise UnknownName("data set", name, classes, where="--root")
        return [Path(root[name]).expanduser() if name in root else None for name in classes]
    if root is None:
        return [None] * len(classes)
    folder = Path(root).expanduser()
    if len(takers) == 1 and not (len(classes) > 1 and (folder / takers[0]).is_dir()):
        return [folder if name in takers else None for name in classes]
    missing = [name for name in takers if classes[name].needs_root and not (folder / name).is_dir()]
    if missing:
        raise MissingFiles(
            f"holds no folder {' or '.join(missing)}",
            where=str(folder),
            fix="give each data set's folder: " + " ".join(f"--root {name}=DIR" for name in takers),
        )
    return [folder / name if name in takers and (folder / name).is_dir() else None for name in classes]


def parse_roots(texts: list[str] | None, data: str | None) -> str | dict[str, str] | None:
    """Read ``--root`` options: one ``DIR``, or ``NAME=DIR`` for each data set.

    Raises:
        BadSetting: If they are mixed or one is given twice.
    """
    if not texts:
        return None
    names = {*registry("datasets").names(), *(name.strip() for name in (data or "").split(","))}
    pairs = [text.partition("=") for text in texts]
    named = {name: folder for name, equals, folder in pairs if equals and name in names}
    if len(named) == len(texts):
        return named
    if len(texts) > 1:
        raise BadSetting(
            f"{len(texts)} folders are given",
            where="--root",
            fix="write --root NAME=DIR once for each data set named by --data",
        )
    return texts[0]

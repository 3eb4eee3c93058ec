"""Tracks: a data set, a scenario with its settings, and a test split, under a version that never changes meaning."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import Field, ValidationError

from retune.data.source import DataSource
from retune.errors import UnknownName, UserError, mistake
from retune.leaderboard.fields import Count, Line, Part, Settings, Sha256, Slug, in_ascii
from retune.plugins import registry
from retune.results.result import Result, TransferRecord
from retune.settings import make, values_of

TRACKS_FILE: Final = "tracks.toml"


class TransferTask(Part):
    """What ``--transfer`` measures.

    Attributes:
        name: Of the measurement.
        data: Name of the data set with the masks.
        settings: All that a result has of both: no default's change goes unseen.
    """

    name: Literal["segmentation"]
    data: Line
    settings: Settings

    @property
    def reader(self) -> str:
        """Name of the data set without its preset."""
        return self.data.partition("/")[0]

    @property
    def chosen(self) -> dict[str, Any]:
        """The settings as ``--set transfer.NAME`` takes them; of one name the measurement's come first."""
        own = {key: of for key, of in self.settings.items() if key != "data"}
        return {**self.settings.get("data", {}), **own}

    def is_of(self, record: TransferRecord) -> bool:
        """Whether a run's transfer is this one."""
        return _json(self.model_dump()) == _json(record.model_dump(include={"name", "data", "settings"}))


class Track(Part):
    """What every entry of a track has in common.

    Attributes:
        id: Ends with its version: a change of protocol is a new track, and old entries stay where they are.
        title: For readers.
        data: Name of the data set, or several with commas between.
        data_settings: Those that differ from the reader's defaults of the day it was written, or guard against
            their change.
        scenario: Name of the scenario.
        scenario_settings: Likewise.
        fingerprint: Of the data set, where everybody has the same.
        n_test: Number of test images, likewise.
        version: Of the protocol.
        transfer: The transfer whose numbers its entries may have; None where they have none.
    """

    id: Slug
    title: Line
    version: Annotated[int, Field(ge=1)]
    data: Line
    data_settings: Settings = Field(default_factory=dict)
    scenario: Line
    scenario_settings: Settings = Field(default_factory=dict)
    fingerprint: Sha256 | None = None
    n_test: Count | None = None
    transfer: TransferTask | None = None

    @property
    def needs_files(self) -> list[str]:
        """Those of its data sets whose files a reader must have."""
        return [name for name in self.data.split(",") if registry("datasets").load(name).needs_root]

    def settings(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """All settings of its data set and its scenario.

        Raises:
            UserError: If one is unknown here.
        """
        source = DataSource.make(self.data, None, self.data_settings)
        scenario = make(
            registry("scenarios").load(self.scenario), self.scenario_settings, owner=f"track {self.id}"
        )
        return source.settings, values_of(scenario)

    def mismatch(self, data: Mapping[str, Any], scenario: Mapping[str, Any]) -> list[str]:
        """Every setting that is not the track's, in words.

        Args:
            data: Settings of the data set.
            scenario: Settings of the scenario.
        """
        found = []
        wanted = dict(zip(("data", "scenario"), self.settings(), strict=True))
        for group, given in (("data", data), ("scenario", scenario)):
            for key in given:
                if key not in wanted[group]:
                    found.append(f"the track has no setting {group}.{in_ascii(key, 60)}")
            for key, value in wanted[group].items():
                # As JSON: to Python, True is 1 and 1 is 1.0.
                here, there = _json(given.get(key)), _json(value)
                if here != there:
                    found.append(
                        f"{group}.{key} is {in_ascii(here, 100)}, the track's is {in_ascii(there, 100)}"
                    )
        return found


class Tracks(dict[str, Track]):
    """Tracks by id."""

    @classmethod
    def read(cls, board: str | Path | None = None) -> Tracks:
        """The packaged tracks, and those that a leaderboard adds in a ``tracks.toml`` of its own.

        Args:
            board: Folder of the leaderboard.

        Raises:
            UserError: If the file is at fault.
        """
        found = cls(_read((files("retune.leaderboard") / TRACKS_FILE).read_bytes(), TRACKS_FILE))
        own = Path(board) / TRACKS_FILE if board is not None else None
        if own is not None and own.is_file():
            more = _read(own.read_bytes(), str(own))
            twice = sorted(found.keys() & more.keys())
            if twice:
                raise UserError(
                    f"track {twice[0]} is packaged already",
                    where=str(own),
                    fix="give it another name or version",
                )
            found.update(more)
        return found

    def find(self, name: str) -> Track:
        """A track by its id.

        Raises:
            UnknownName: If there is none.
        """
        if name not in self:
            raise UnknownName("track", name, self)
        return self[name]

    def of(self, result: Result) -> Track:
        """The newest track that a run belongs to.

        Raises:
            UserError: Says which setting keeps it out, or which tracks there are.
        """
        near = [
            t for t in self.values() if (t.data, t.scenario) == (result.dataset.name, result.scenario.name)
        ]
        reasons = {t.id: t.mismatch(result.dataset.settings, result.scenario.settings) for t in near}
        where = f"run {result.run.id}"
        if near:
            nearest = min(near, key=lambda t: (len(reasons[t.id]), -t.version))
            if not reasons[nearest.id]:
                return nearest
            raise UserError(
                f"is on no track: {reasons[nearest.id][0]}",
                where=where,
                fix=f"run it again with the settings of track {nearest.id}",
            )
        raise UserError(
            f"there is no track for {result.scenario.name} on {result.dataset.name}",
            where=where,
            fix=f"tracks are {', '.join(sorted(self))}",
        )


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _read(content: bytes, where: str) -> dict[str, Track]:
    try:
        document = tomllib.loads(content.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"is not TOML: {error}", where=where) from None
    found = {}
    for key, fields in document.items():
        try:
            track = Track.model_validate({**fields, "id": key} if isinstance(fields, dict) else fields)
        except ValidationError as error:
            raise UserError(f"is not a table of tracks: {mistake(error, key)}", where=where) from None
        if not key.endswith(f"-v{track.version}"):
            raise UserError(f"track {key} does not end with its version, -v{track.version}", where=where)
        found[key] = track
    return found

"""Whether an entry keeps quiet about what its backbone's card says: that it was pre-trained on the data."""

from __future__ import annotations

from typing import Final

from retune.backbones.contamination import Contaminated, contamination
from retune.data.source import DataSource
from retune.errors import RetuneError
from retune.leaderboard.entry import Entry
from retune.leaderboard.tracks import Track
from retune.plugins import registry

ORDER: Final[tuple[Contaminated, ...]] = ("no", "possibly", "yes")


def understated(entry: Entry, track: Track) -> str | None:
    """What a named backbone's card says of a track's data where an entry says less; None where it does not.

    Nothing of the backbone is loaded but its card; a name that only the submitter knows has none.

    Args:
        entry: Says whether its backbone is contaminated.
        track: Its track.
    """
    name = entry.backbone.name
    if name not in registry("backbones").names():
        return None
    try:
        card = registry("backbones").load(name)().card
    except RetuneError:
        # A plugin that is broken here says nothing of the entry.
        return None
    source = DataSource.make(track.data, None, track.data_settings)
    synthetic = all(reader.synthetic for reader in source.readers)
    found = contamination(card, source.origins, synthetic=synthetic)
    if ORDER.index(found) <= ORDER.index(entry.backbone.contaminated):
        return None
    return f"backbone.contaminated is {entry.backbone.contaminated}, the card of {name} says {found}"

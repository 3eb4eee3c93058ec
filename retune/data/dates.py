"""When an image was taken: a column of dates as ISO 8601 spells them, as far as they are known."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from retune.data.dataset import Array
from retune.data.tables import by_value, text

if TYPE_CHECKING:
    import pandas as pd

_DATE: Final = r"^\s*([0-9]{4})(?:\.0)?(?:-?([0-9]{2})(?:-?([0-9]{2}))?)?(?:[T ].*)?\s*$"
"""2014, 2014-09, 2014-09-15 or 20140915, with or without the time of day; 2014.0 is what a spreadsheet makes."""


def read_dates(words: pd.Series[str]) -> tuple[Array, tuple[str, ...]]:
    """A column of dates, and a note that tells how many cannot be understood.

    Args:
        words: As the table has them, (N,); blank for unknown. The index is the row number to show.

    Returns:
        Text (N,) like ``2014``, ``2014-09`` or ``2014-09-15``, ``""`` where it is not known; and a note, or none.
    """
    dates = by_value(words, _spelt)
    strange = words[((dates == "") & (words.str.strip() != "")).to_numpy(bool)]
    if not len(strange):
        return text(dates), ()
    return text(dates), (
        f"Dates not understood, so that {len(strange):,} count as unknown: '{strange.iloc[0]}' in row "
        f"{strange.index[0]} and the like; write 2014, 2014-09 or 2014-09-15",
    )


def _spelt(distinct: pd.Series[str]) -> pd.Series[str]:
    import pandas as pd

    parts = distinct.str.extract(_DATE)
    whole = parts[0] + parts[1].fillna("01") + parts[2].fillna("01")
    there = pd.to_datetime(whole, format="%Y%m%d", errors="coerce").notna()
    date = parts[0] + ("-" + parts[1]).fillna("") + ("-" + parts[2]).fillna("")
    return date.where(there, "")

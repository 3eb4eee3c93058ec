"""Published Dice of frozen image encoders on RSNA and SIIM, beside what predicting nothing scores by the same rule.

``python tests/benchmarks/published_dice.py`` prints the rows of ``retune/transfers/README.md`` and draws
``figures/published-dice.svg``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, NamedTuple

import altair as alt

from retune.report.drawing import COLOURS, FAINT, INK, data, svg_of

FIGURE: Final = Path(__file__).parents[2] / "figures" / "published-dice.svg"
SHARES: Final = ("1 %", "10 %", "100 %")
SETS: Final = ("RSNA", "SIIM")

Cell = tuple[float, float]
"""Lowest and highest over text encoders; the same where there is one."""


class Row(NamedTuple):
    """A method: its Dice at 1, 10 and 100 % of the training images, and where the numbers were read."""

    method: str
    rsna: tuple[Cell, Cell, Cell]
    siim: tuple[Cell, Cell, Cell]
    source: str
    family: str = "others"


def _row(method: str, rsna: str, siim: str, source: str, family: str = "others") -> Row:
    def cells(text: str) -> Any:
        ends = [[float(end) for end in one.split("-")] for one in text.split("/")]
        return tuple((one[0], one[-1]) for one in ends)

    return Row(method, cells(rsna), cells(siim), source, family)


G2D: Final = "G2D, table 1"
NOTEBOOK: Final = "Adaptor's notebook, over 5 text encoders"
BEST: Final = "Adaptor, best of 5"
SECOND: Final = "second-hand, not read in the paper"
EMPTY: Final[dict[str, Cell]] = {"RSNA": (76.6, 76.6), "SIIM": (75.0, 77.6)}
ROWS: Final = (
    _row("random weights", "6.9/10.6/18.5", "9.0/28.6/54.3", G2D),
    _row("ImageNet", "34.8/39.9/64.0", "10.2/35.5/63.5", G2D, "ImageNet"),
    _row("ConVIRT", "55.0/67.4/67.5", "25.0/43.2/59.9", G2D),
    _row("GLoRIA", "59.3/67.5/67.8", "35.8/46.9/63.4", G2D),
    _row("GLoRIA-MIMIC", "60.3/68.7/68.3", "37.4/57.1/64.0", G2D),
    _row("MGCA", "63.0/68.3/69.8", "49.7/59.3/64.2", G2D),
    _row("M-FLAG", "64.6/69.7/70.5", "52.5/61.2/64.8", G2D, "M-FLAG"),
    _row("MedKLIP", "66.2/69.4/71.9", "50.2/60.8/63.9", G2D),
    _row("G2D, encoder", "70.9/72.6/75.1", "62.6/63.1/66.8", G2D),
    _row("G2D, with its decoder", "72.8/73.4/76.9", "65.6/66.9/68.4", G2D),
    _row("MLIP", "67.7/68.8/73.5", "51.6/60.8/68.1", SECOND),
    _row("IMITATE", "70.5/71.4/73.8", "53.9/61.7/64.5", SECOND),
    _row("FaNe", "69.5/72.4/74.1", "54.1/62.3/68.8", SECOND),
    _row("Adaptor, ResNet-AE", "76.5/69.5-74.4/75.5-76.4", "73.1/73.1/73.0-73.1", NOTEBOOK, BEST),
    _row("Adaptor, DINOv2-S", "50.1-68.5/70.9-73.6/77.5-78.1", "41.9-60.8/52.9-66.9/71.9-73.7", NOTEBOOK, BEST),
    _row("Adaptor, DINOv2-B", "52.0-62.4/72.4-74.3/76.7-77.2", "44.0-72.6/51.3-67.3/72.9-73.6", NOTEBOOK, BEST),
)  # fmt: skip
FAMILIES: Final = {
    BEST: COLOURS[1],
    "M-FLAG": COLOURS[0],
    "ImageNet": COLOURS[2],
    "others": FAINT,
}


def table() -> list[str]:
    """The rows of the README."""
    return [f"| {row.method} | {_told(row.rsna)} | {_told(row.siim)} | {row.source} |" for row in ROWS]


def _told(cells: tuple[Cell, ...]) -> str:
    return " / ".join(f"{low:.1f}" if low == high else f"{low:.1f}-{high:.1f}" for low, high in cells)


def figure() -> str:
    """Two panels: every method's Dice by share, below the line of the empty prediction."""
    rows = [
        {"panel": name, "method": row.method, "family": row.family, "share": share, "dice": cell[1]}
        for row in ROWS
        for name, cells in zip(SETS, (row.rsna, row.siim), strict=True)
        for share, cell in zip(SHARES, cells, strict=True)
    ]
    rows += [
        {"panel": name, "share": share, "low": low, "high": high}
        for name, (low, high) in EMPTY.items()
        for share in SHARES
    ]
    for name, cell in EMPTY.items():
        told = f"predicting nothing: {_told((cell,)).replace('-', ' to ')}"
        rows.append({"panel": name, "share": SHARES[0], "told": told, "high": cell[1]})
    tall = alt.Scale(domain=[0, 85], nice=False)
    x = alt.X("share:N", sort=list(SHARES), title="training images", axis=alt.Axis(labelAngle=0, grid=False))
    y = alt.Y("dice:Q", title="published Dice, %", scale=tall)
    words = alt.Legend(orient="bottom", columns=2, title=None, symbolOpacity=1)
    tint = alt.Color(
        "family:N", scale=alt.Scale(domain=list(FAMILIES), range=list(FAMILIES.values())), legend=words
    )
    base = alt.Chart().encode(x=x)
    lines = base.transform_filter("isValid(datum.dice)").mark_line(strokeWidth=1.4, point={"size": 18})
    empty = base.transform_filter("isValid(datum.low)")
    high = alt.Y("high:Q", scale=tall)
    layers = (
        empty.mark_area(opacity=0.3, color=INK).encode(y=alt.Y("low:Q", scale=tall), y2="high:Q"),
        empty.mark_line(strokeWidth=2, color=INK).encode(y=high),
        lines.encode(y=y, color=tint, detail="method:N"),
        base.transform_filter("isValid(datum.told)")
        .mark_text(align="left", dx=-14, dy=-7, fontSize=9.5, fontWeight="bold", color=INK)
        .encode(y=high, text="told:N"),
    )
    header = alt.Header(title=None, labelFontSize=10, labelFontWeight="bold")
    drawn = (
        alt.layer(*layers, data=data(rows))
        .properties(width=190, height=250)
        .facet(column=alt.Column("panel:N", sort=list(SETS), header=header), spacing=12)
    )
    return svg_of(drawn)


if __name__ == "__main__":
    print("\n".join(table()))
    FIGURE.write_text(figure(), encoding="utf-8")

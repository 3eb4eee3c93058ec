"""Pages of a site as a browser would read them."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

from retune.leaderboard.site import Built, build


class Parsed(HTMLParser):
    """What a browser would make of a page: elements with attributes, and text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {key: value or "" for key, value in attrs}))

    def handle_data(self, data: str) -> None:
        self.text += data

    def links(self) -> list[str]:
        return [a["href"] for _, a in self.elements if "href" in a] + [
            a["src"] for _, a in self.elements if "src" in a
        ]


def parsed(file: Path) -> Parsed:
    return Parsed(file.read_text(encoding="utf-8"))


def rows(page: Path) -> list[list[str]]:
    """Text of the cells of the first table."""
    body = page.read_text(encoding="utf-8").partition("<tbody>")[2].partition("</tbody>")[0]
    cells = [re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row, re.DOTALL) for row in body.split("</tr>")[:-1]]
    return [[" ".join(Parsed(cell).text.split()) for cell in row] for row in cells]


def built(board: Path, out: Path) -> tuple[Path, Built]:
    found = build(board, out)
    return out, found


def content(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()}

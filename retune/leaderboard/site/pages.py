"""The pages: text of entries is a stranger's, so all of it is escaped and nothing that is missing passes unseen."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import vl_convert
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from retune.errors import UserError
from retune.leaderboard.command import needs, run_commands, submit_command, verify_command
from retune.leaderboard.records import TIERS
from retune.leaderboard.site.matrix import findings, matrices
from retune.leaderboard.site.view import Shown, Site, TrackShown
from retune.metrics.table import DECIDES, DENSE, PUBLISHED, Metric, in_table
from retune.results import text
from retune.settings import typed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from retune.leaderboard.entry import Entry
    from retune.progress import Progress

ASSETS: Final = ("site.css", "table.js", "charts.js")
TIER_MEANINGS: Final = {
    "self-reported": "what the submitter wrote; nobody with the data has checked it",
    "recomputed": "every number was recomputed from the submitted scores with the verifier's own labels",
    "re-run": "recomputed, and the method was run again: every AUC is the same to .02, means to .005, mostly far closer",
}


def write(site: Site, folder: Path, progress: Progress) -> None:
    """Write every page and what pages load.

    Args:
        site: What is shown.
        folder: Gets the files.
        progress: Told what is done.

    Raises:
        UserError: If a track's id cannot be the name of a file.
    """
    for shown_track in site.tracks:
        if not re.fullmatch(r"[a-z0-9]+(?:[-.][a-z0-9]+)*", name := shown_track.track.id):
            raise UserError(
                "may hold small letters, digits, dashes and dots only", where=f"name of track {name}"
            )
    progress("bundling charts", 0, 1)
    assets = folder / "assets"
    assets.mkdir()
    here = files("retune.leaderboard.site")
    for name in ASSETS:
        (assets / name).write_bytes((here / name).read_bytes())
    pages = _environment()
    # A module would not load from a file; in a function the library's names stay its own.
    library = pages.get_template("vega.js.j2").render(bundle=Markup(_vega()))
    (assets / "vega.js").write_text(library, encoding="utf-8")
    progress("bundling charts", 1, 1)

    versions, elsewhere = _relations(site)
    newer = _newer(versions)
    index, every, track_page, entry_page = (
        pages.get_template(f"{name}.html.j2") for name in ("index", "entries", "track", "entry")
    )
    (folder / "index.html").write_text(index.render(site=site, root="", dense=False), encoding="utf-8")
    listed = every.render(
        site=site, root="", choices=_choices(site.entries), newer=newer, dense=_dense(site.entries)
    )
    (folder / "entries.html").write_text(listed, encoding="utf-8")
    (folder / "tracks").mkdir()
    total, done = len(site.entries), 0
    for shown_track in site.tracks:
        choices = _choices(shown_track.entries)
        page = track_page.render(
            t=shown_track, root="../", choices=choices, newer=newer, dense=_dense(shown_track.entries)
        )
        (folder / shown_track.href).write_text(page, encoding="utf-8")
        if shown_track.entries:
            (folder / "entries" / shown_track.track.id).mkdir(parents=True)
        for shown in shown_track.entries:
            progress("writing pages", done, total)
            page = entry_page.render(
                **_entry(shown, shown_track),
                versions=[s for s in versions[shown.track.id, _called(shown)] if s is not shown],
                elsewhere=[s for s in elsewhere[shown.entry.name] if s is not shown],
                root="../../",
                dense=_dense([shown]),
            )
            (folder / shown.href).write_text(page, encoding="utf-8")
            done += 1
    progress("writing pages", total, total)


@cache
def _vega() -> str:
    """The charting library as one script, that a page may load from beside it; made once, for that takes seconds."""
    return vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")


def _environment() -> Environment:
    pages = Environment(
        loader=PackageLoader("retune.leaderboard", "site"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    pages.filters.update(
        decimals=text.decimals,
        whole=text.count,
        seconds=text.seconds,
        size=text.size,
        plain=lambda value: text.shown(typed(value)),
    )
    # Most text is printable, and looking at each character of a thousand pages takes seconds.
    pages.finalize = lambda value: (
        text.shown(value) if type(value) is str and not value.isprintable() else value
    )
    pages.globals.update(
        tiers=TIERS,
        tier_meanings=TIER_MEANINGS,
        metrics=(*PUBLISHED, *DENSE),
        columns=(*in_table("board"), *DENSE),
        told=_told,
        decides=DECIDES,
    )
    return pages


def _told(metrics: Sequence[Metric], entries: Sequence[Entry]) -> list[Metric]:
    """Metrics that any of these entries has a number of."""
    return [m for m in metrics if any(entry.estimate(m).mean is not None for entry in entries)]


def _dense(entries: Sequence[Shown]) -> bool:
    """Whether any of these entries has numbers of a transfer."""
    return any(s.entry.transfer for s in entries)


def _choices(entries: list[Shown]) -> dict[str, list[str]]:
    """What a filter offers: what there is, and only where there is more than one."""
    found: dict[str, list[str]] = {
        "scenario": sorted({s.track.scenario for s in entries}),
        "data": sorted({s.track.data for s in entries}),
        "backbone": sorted({s.entry.backbone.name for s in entries}),
        "tier": [str(tier) for tier in TIERS if any(s.tier == tier for s in entries)],
        "stores": [c for c in ("no", "yes") if any(("no", "yes")[s.stores] == c for s in entries)],
        "contaminated": [
            c for c in ("no", "possibly", "yes") if any(s.entry.backbone.contaminated == c for s in entries)
        ],
    }
    return {name: options for name, options in found.items() if len(options) > 1}


Versions = dict[tuple[str, str], list[Shown]]


def _relations(site: Site) -> tuple[Versions, dict[str, list[Shown]]]:
    """Versions of a method on a track, and entries of one name on all tracks."""
    versions: Versions = defaultdict(list)
    elsewhere: dict[str, list[Shown]] = defaultdict(list)
    for shown in site.entries:
        versions[shown.track.id, _called(shown)].append(shown)
        elsewhere[shown.entry.name].append(shown)
    for several in versions.values():
        several.sort(key=lambda s: _number(s.entry.method.version))
    return versions, elsewhere


def _called(shown: Shown) -> str:
    return shown.entry.name.removesuffix(f"-{shown.entry.method.version}")


def _number(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


def _newer(versions: Versions) -> dict[str, str]:
    """The newest version of what has a newer one, by an entry's page."""
    return {s.href: several[-1].entry.method.version for several in versions.values() for s in several[:-1]}


def _entry(shown: Shown, track: TrackShown) -> dict[str, Any]:
    entry = shown.entry
    packages = Counter(tuple(sorted(run.versions.items())) for run in entry.runs)
    settings = [run.settings for run in entry.runs if run.settings is not None]
    return {
        "s": shown,
        "t": track,
        "entry": entry,
        "rank": track.rank(shown),
        "compared": track.compared,
        "matrices": matrices(entry),
        "findings": findings(entry),
        "packages": sorted(packages.items()),
        "seed_settings": settings,
        "runs": run_commands(entry, shown.track),
        "submit": submit_command(entry),
        "verify": verify_command(entry, shown.track),
        "repeatable": not entry.strategy.is_file,
        "needs": needs(entry),
    }

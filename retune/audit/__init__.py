"""May this update go live? What it does to whom, from the stored scores of every version."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from retune.errors import UserError
from retune.files import make_folder, write_whole
from retune.report import AUDIT_FILE as PAGE_FILE

if TYPE_CHECKING:
    from retune.audit.one import Audit
    from retune.audit.several import Methods
    from retune.progress import Progress

TEXT_FILE: Final = "audit.md"
RECORD_FILE: Final = "audit.json"

__all__ = ["PAGE_FILE", "RECORD_FILE", "TEXT_FILE", "audit", "write_criteria"]


def audit(
    paths: Iterable[str | Path],
    *,
    accept: str | Path | None = None,
    out: str | Path | None = None,
    progress: Progress | None = None,
) -> Audit | Methods:
    """Audit one run in full, or the runs of one stream as a table of methods.

    Args:
        paths: Folders of runs, or folders that hold runs at any depth.
        accept: A file of rules to hold them against.
        out: Folder that gets ``audit.html``, ``audit.md`` and ``audit.json``; nothing is written where left out.
        progress: Called with a stage, what is done of it and what there is to do.

    Returns:
        The audit of the one run, or the table of methods.

    Raises:
        UserError: If a run cannot be audited, runs are of different streams, a rule cannot be, or what stands in ``out``
            is not as it was written.
    """
    from retune.audit.criteria import read_criteria
    from retune.audit.dossier import require_chained
    from retune.audit.evidence import read
    from retune.audit.one import audit_one, document
    from retune.audit.page import html, markdown
    from retune.audit.several import audit_several
    from retune.report.suites import Suites
    from retune.results.collect import collect
    from retune.sealed import open_json, seal_json

    tell = progress or (lambda stage, done, total: None)
    paths = [Path(path) for path in paths]
    for rules in (path for path in paths if path.suffix == ".toml"):
        raise UserError("is no run", where=str(rules), fix=f"rules come with --accept {rules}, beside a run")
    criteria = read_criteria(Path(accept)) if accept is not None else []
    found = collect(paths, tell)
    folder = Path(out) if out is not None else None
    if folder is not None and (folder / RECORD_FILE).is_file():
        again = "remove it, or choose another folder with --out"
        require_chained(
            open_json(folder / RECORD_FILE, fix=again).get("dossier", []), str(folder / RECORD_FILE)
        )
    evidence = []
    for k, result in enumerate(found.results):
        evidence.append(read(result, found.folders[result.run.id]))
        tell("reading scores", k + 1, len(found.results))
    told: Audit | Methods
    if len(evidence) == 1:
        tell("auditing", 0, 1)
        told = audit_one(evidence[0], criteria)
        tell("auditing", 1, 1)
    else:
        cells = Suites(found.folders).cells
        names = [cells[r.run.id].strategy if r.run.id in cells else r.strategy.called for r in found.results]
        told = audit_several(evidence, names, criteria, tell)
    if folder is not None:
        make_folder(folder)
        write_whole(folder / PAGE_FILE, html(told).encode())
        write_whole(folder / TEXT_FILE, markdown(told).encode())
        write_whole(folder / RECORD_FILE, seal_json(document(told)))
    return told


def write_criteria(path: str | Path) -> None:
    """Write a commented file of rules to start from.

    Raises:
        UserError: If there is one already.
    """
    from retune.audit.criteria import NEW

    file = Path(path)
    if file.exists():
        raise UserError("is there already", where=str(file), fix="choose another name")
    make_folder(file.parent)
    write_whole(file, NEW.encode())

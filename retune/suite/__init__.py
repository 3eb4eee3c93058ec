"""Run strategies x scenarios x data sets x backbones x seeds; the same call again continues or reads it.

    table = retune.suite(strategies=["re-tune", "ridge", MyStrategy(k=7)], seeds=3)
    table.to_frame(), table.best(), table.compare("re-tune", "ridge"), table.plot()

    retune.suite(file=None, *, out=None, jobs=None, progress=None, **options)

``file`` is a TOML file as the command takes it, ``out`` the folder of the suite, ``jobs`` how many runs go at the same
time. The options:

    strategies, scenarios, data    what is compared; each a list of names, classes, instances with their settings, or
                                   tables: {"strategy": "ridge", "name": "stiff", "set": {"penalty": 1e8}},
                                   {"scenario": ..., "set": ...}, {"data": ..., "root": ...}; several of one class are
                                   told apart by their settings
    backbones, metrics, transfer   likewise, without settings
    seeds                          how many, or which
    orders                         how many orders of tasks or labels, or which
    settings                       for whatever has them: {"epochs": 5, "data.images": 800, "scenario.by": "site"}
    strategy, search               settings of single strategies, and values to choose from, by strategy
    root, prompts, steps, uncertain, blank, skip_bad_images, replicates, device, precision, time_limit
                                   as in retune.run: help(retune.Spec)

Runs go in processes of their own: a class must be in a file that can be imported, not in the notebook or the script
that calls. What could not be run is in ``failures`` of the table.

In this package ``spec`` is what a user wrote, ``grid`` makes runs of it, ``plans`` finds out what each run is on the
data that is there, and ``execute`` does what is left, with ``local`` or ``cluster``: their processes do one job after
another, as ``work`` says. ``summary`` measures the finished runs, ``tables`` writes them.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from retune.progress import Progress
    from retune.suite.run import Table


class _Callable(ModuleType):
    """The room is also what one does in it: ``retune.suite(strategies=[...])``."""

    def __call__(
        self,
        file: str | Path | None = None,
        *,
        out: str | Path | None = None,
        jobs: int | None = None,
        progress: Progress | None = None,
        **options: Any,
    ) -> Table:
        from retune.suite.run import suite

        return suite(file, out=out, jobs=jobs, progress=progress, **options)

    __call__.__doc__ = __doc__


sys.modules[__name__].__class__ = _Callable

"""Strategies x scenarios x data sets x backbones x seeds x label orders, with one command.

``spec`` is what a user wrote, ``grid`` makes runs of it, ``plans`` finds out what each run is on the data that is
there, and ``execute`` does what is left, with ``local`` or ``cluster``: their processes do one job after another, as
``work`` says. ``summary`` measures the finished runs, ``tables`` writes them.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from retune.suite.run import Table


class _Callable(ModuleType):
    """The room is also what one does in it: ``retune.suite(strategies=[...])``."""

    def __call__(self, *args: Any, **options: Any) -> Table:
        """Run a suite; see :func:`retune.suite.run.suite`."""
        from retune.suite.run import suite

        return suite(*args, **options)


sys.modules[__name__].__class__ = _Callable

"""Energy that the machine itself counts: RAPL's of processors, NVML's of a card; what is not counted is not guessed."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Final

POWERCAP: Final = Path("/sys/class/powercap")
OFTEN: Final = 20.0
"""Seconds between readings: a package's counter may wrap within minutes."""
Reading = tuple[float, float]
"""What a counter shows, and at what it begins again (infinite: never), in joules."""


def packages(powercap: Path = POWERCAP) -> dict[str, Reading]:
    """What the processors' counters show, by name; those that cannot be read (most systems ask for root) are left out.

    Args:
        powercap: Where Linux shows them.
    """
    found = {}
    for zone in sorted(powercap.glob("intel-rapl:*")):
        with suppress(OSError, ValueError):
            name = (zone / "name").read_text().strip()
            if name.startswith("package"):
                shown, last = (int((zone / of).read_text()) for of in ("energy_uj", "max_energy_range_uj"))
                found[name] = (shown / 1e6, (last + 1) / 1e6)
    return found


def card() -> dict[str, Reading]:
    """What the counter of the card in use shows; nothing without one, or without the package nvidia-ml-py."""
    import torch

    if not torch.cuda.is_available() or find_spec("pynvml") is None:
        return {}
    import pynvml

    one = torch.cuda.get_device_properties(torch.cuda.current_device())
    try:
        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{one.uuid}")
        return {one.name: (pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1e3, math.inf)}
    except pynvml.NVMLError:
        return {}


def read() -> dict[str, Reading]:
    """All that this machine counts."""
    return {**packages(), **card()}


class Meter:
    """Adds up what counters count, others' work on the same machine included.

    Args:
        counters: Reads them.

    Attributes:
        joules: What was counted so far, by counter.
    """

    def __init__(self, counters: Callable[[], Mapping[str, Reading]] = read) -> None:
        self.joules: dict[str, float] = {}
        self._counters = counters
        self._shown: Mapping[str, Reading] = {}
        self._looking = threading.Lock()

    def look(self) -> None:
        """Add what was counted since the last look."""
        with self._looking:
            shown = self._counters()
            for name, (now, most) in shown.items():
                before = self._shown.get(name, (now, most))[0]
                used = now - before if now >= before else now - before + most
                self.joules[name] = self.joules.get(name, 0.0) + used
            self._shown = shown

    @contextmanager
    def running(self) -> Iterator[None]:
        """Count what is used inside, looking often enough that no counter wraps unseen."""
        self.look()
        if not self._shown:
            yield
            return
        over = threading.Event()

        def often() -> None:
            while not over.wait(OFTEN):
                self.look()

        watch = threading.Thread(target=often)
        watch.start()
        try:
            yield
        finally:
            over.set()
            watch.join()
            self.look()

"""The way in: nothing is imported here that takes long, so that an interruption is told whenever it comes."""

from __future__ import annotations

import io
import os
import sys


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0 done, 1 failed, 2 the input is at fault, 130 interrupted."""
    # Threads that spin while they wait take the cores from whatever else runs; read when torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    for stream in (sys.stdout, sys.stderr):
        # A terminal that lacks a letter shows its code: what was worked out is told all the same.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        from retune.cli.app import invoke

        return invoke(arguments)
    except KeyboardInterrupt:
        print("error: interrupted; the same command continues", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())

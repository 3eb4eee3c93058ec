"""Metrics of one's own: entry points of ``retune.metrics``, and Python files. None is part of the benchmark."""

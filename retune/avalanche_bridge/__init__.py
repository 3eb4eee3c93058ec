"""Avalanche, both ways: our streams as its benchmarks, our metrics in its loggers, its methods in our runner.

Nothing here imports Avalanche before it is used.
"""

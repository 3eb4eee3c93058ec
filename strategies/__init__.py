"""Continual-learning strategies: one file is one method."""

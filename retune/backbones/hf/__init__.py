"""Dual encoders in the format of transformers."""

"""Backbones by name: one file is one model."""

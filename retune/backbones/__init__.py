"""Frozen vision-language models."""

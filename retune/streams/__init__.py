"""Streams of experiences, and how a table is cut into them."""

"""Readers: one file is one data set."""

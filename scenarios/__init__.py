"""Scenario generators: one file is one scenario."""

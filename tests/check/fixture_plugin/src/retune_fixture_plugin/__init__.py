"""A strategy and a scenario of another distribution."""

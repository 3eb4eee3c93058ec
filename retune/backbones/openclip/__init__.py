"""Models in the format of open_clip."""

"""Features made elsewhere, looked up by image."""

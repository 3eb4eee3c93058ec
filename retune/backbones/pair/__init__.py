"""An image tower and a text tower without a joint space."""

"""One run: from what a user asks for to a result."""

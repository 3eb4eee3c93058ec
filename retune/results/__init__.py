"""What a run leaves behind: its schema, reading it, comparing two, collecting many."""

"""What makes outlines of maps of features; a file is a decoder."""

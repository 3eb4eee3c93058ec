"""What an adapted image side is good for beside classification; a file is a measurement."""

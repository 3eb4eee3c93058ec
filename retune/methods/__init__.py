"""What a strategy is given and must answer, and what more than one method is built of."""

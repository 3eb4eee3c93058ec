"""A model that one can take away: what a run learnt, in a folder, and the scores that it gives to pictures."""

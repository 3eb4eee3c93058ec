"""What a run learnt: taken away, asked for the scores of pictures, taught further."""

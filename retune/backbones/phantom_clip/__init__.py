"""The packaged weights of phantom-clip, and the recipe that makes them."""

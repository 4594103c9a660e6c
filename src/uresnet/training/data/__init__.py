"""Training data: where it comes from, how it is prepared, how it is read."""

"""Examples made of training data."""

"""Public brains."""

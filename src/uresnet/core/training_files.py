"""What a training writes into its folder for people and for the page that draws it, besides models and state."""

STEPS = "log.csv"
"""A row for each reported update."""
VALIDATIONS = "validation.csv"
"""A row for each validation."""
SAMPLES = "samples.npz"
"""The pictures of the last validation."""

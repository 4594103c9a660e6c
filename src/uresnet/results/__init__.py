"""What a run returns, and what run.json says, typed."""

"""Whether a result can be trusted: signs, and the verdict on them."""

"""Studies: what to try next, what was tried, and the loop between them."""

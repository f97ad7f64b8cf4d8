"""A dataset as one page to look at before the work: rows, pictures, responses, and what is suspicious."""

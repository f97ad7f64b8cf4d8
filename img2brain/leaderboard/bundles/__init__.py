"""Bundles: rows of a leaderboard that leave their home, with all that is needed to check them."""

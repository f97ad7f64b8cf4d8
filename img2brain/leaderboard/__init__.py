"""Leaderboards: ranked trials as a table, a static page and figures."""

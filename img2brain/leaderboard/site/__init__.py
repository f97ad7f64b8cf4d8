"""The leaderboard as a static site, which opens from disk and asks nothing of the network."""

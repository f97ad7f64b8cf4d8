"""Datasets: images, responses and what belongs to them. One file per layout."""

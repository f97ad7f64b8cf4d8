"""Metrics: one score per voxel. A file holds one metric, as `COMPONENT`."""

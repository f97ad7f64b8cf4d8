"""Datasets: images, responses and what belongs to them.

A file of this folder without an underscore is a layout (`base.Dataset`): it says which folders are its own and opens
them.
"""

from __future__ import annotations

from img2brain.datasets._layouts import open_dataset, subjects

__all__ = ["open_dataset", "subjects"]

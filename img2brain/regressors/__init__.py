"""Regressors: scikit-learn estimators with many outputs. A file holds one regressor, as `COMPONENT`.

`img2brain.regressors.base` holds what they extend, and what one of your own does.
"""

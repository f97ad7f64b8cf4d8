"""Regressors: scikit-learn estimators with many outputs. A file holds one regressor, as `COMPONENT`."""

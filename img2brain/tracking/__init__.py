"""Evidence: every trial as an MLflow run that people compare, and the registry of models.

The search log is the truth of what was tried; the tracking store can be brought up to date from it at any time.
"""

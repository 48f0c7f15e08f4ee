"""Runs that train models: single trainings, comparisons and hyperparameter searches."""

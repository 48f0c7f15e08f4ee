"""Analyses of trained models and their runs, shown in the notebooks."""

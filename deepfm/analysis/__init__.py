"""Analyses of a trained model and its runs, as the notebooks show them."""

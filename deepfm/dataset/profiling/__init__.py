"""Statistics of a dataset and their HTML page."""

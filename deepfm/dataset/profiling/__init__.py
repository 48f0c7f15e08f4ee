"""Profile of a dataset and its HTML page."""

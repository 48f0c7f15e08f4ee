"""Several models trained on the same rows, side by side."""

"""Synthetic click logs with known click probabilities."""

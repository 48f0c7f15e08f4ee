"""Synthetic click logs whose true click probabilities are known."""

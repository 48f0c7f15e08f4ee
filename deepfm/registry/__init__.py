"""Versions of a registered model: the promotion gate and its aliases."""

"""Spark helpers that are independent of click logs."""

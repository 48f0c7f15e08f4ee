"""Helpers on top of Spark that know nothing of click logs."""

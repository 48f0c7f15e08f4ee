"""Parquet and ORC files of a click log."""

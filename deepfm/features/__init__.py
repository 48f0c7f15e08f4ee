"""Typed columns to ids and values: statistics, vocabularies and encoding."""

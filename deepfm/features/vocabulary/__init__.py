"""Vocabularies: known values of each field and their ids."""

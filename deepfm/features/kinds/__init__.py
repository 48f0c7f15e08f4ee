"""Kinds of fields: how a raw value of each becomes ids or a number."""

"""Typed, validated settings from YAML files."""

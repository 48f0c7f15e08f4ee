"""YAML files as typed, validated settings."""

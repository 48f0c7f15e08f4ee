"""Promotion gate and aliases of registered models."""

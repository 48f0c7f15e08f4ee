"""Metrics of binary predictions, accumulated over batches and ranks."""

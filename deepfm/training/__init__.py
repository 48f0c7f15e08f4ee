"""Weights from impressions: the same loop on one process and on many."""

"""Petastorm datasets that describe themselves: written by Spark, read by PyTorch."""

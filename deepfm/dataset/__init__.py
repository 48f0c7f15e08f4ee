"""Encoded datasets: Petastorm files written by Spark and read by PyTorch, with a manifest and a profile."""

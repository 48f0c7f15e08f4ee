"""The border between Spark and PyTorch: a Petastorm dataset that describes itself."""

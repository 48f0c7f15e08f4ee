"""Communication between the worker processes of one training."""

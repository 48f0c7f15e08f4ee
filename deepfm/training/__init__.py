"""The training loop and its parts; torch only, the same on one process and on many."""

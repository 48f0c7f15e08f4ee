"""Commands of `python -m deepfm` for daily operation."""

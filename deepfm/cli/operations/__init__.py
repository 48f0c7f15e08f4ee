"""Commands of `python -m deepfm`, and reports of the outcomes of jobs."""

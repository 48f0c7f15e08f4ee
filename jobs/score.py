"""Score one day of impressions: `python jobs/score.py --help`."""

import environment  # noqa: F401

from deepfm.cli.score import score

if __name__ == "__main__":
    score()

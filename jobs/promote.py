"""Decide whether the candidate becomes champion: `python jobs/promote.py --help`."""

import environment  # noqa: F401

from deepfm.cli.promote import promote

if __name__ == "__main__":
    promote()

"""Train several models on one dataset and compare them: `python jobs/compare.py --help`."""

import environment  # noqa: F401

from deepfm.cli.compare import compare

if __name__ == "__main__":
    compare()

"""Build a dataset from a click log: `python jobs/build_features.py --help`."""

import environment  # noqa: F401

from deepfm.cli.build_features import build_features

if __name__ == "__main__":
    build_features()

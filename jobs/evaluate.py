"""Evaluate a scored day against its labels: `python jobs/evaluate.py --help`."""

import environment  # noqa: F401

from deepfm.cli.evaluate import evaluate

if __name__ == "__main__":
    evaluate()

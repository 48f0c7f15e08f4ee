"""Train a model on a dataset: `python jobs/train.py --help`."""

import environment  # noqa: F401

from deepfm.cli.train import train

if __name__ == "__main__":
    train()

"""Search hyperparameters of a model: `python jobs/tune.py --help`."""

import environment  # noqa: F401

from deepfm.cli.tune import tune

if __name__ == "__main__":
    tune()

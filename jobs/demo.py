"""Run the whole pipeline on a small click log: `python jobs/demo.py --help`."""

from pathlib import Path

import environment  # noqa: F401

from deepfm.cli.demo import demo

if __name__ == "__main__":
    demo(obj=Path(__file__).resolve().parents[1])

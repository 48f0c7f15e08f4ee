"""Command line of the package, `deepfm` or `python -m deepfm`; its doctor runs where jobs cannot start."""

import sys

try:
    from deepfm.cli.main import run
except ImportError as error:  # a missing package, or one whose libraries do not load
    remedy = "run `. .venv/bin/activate` in the project folder (`make env` creates .venv)"
    print(f"error: {sys.executable} cannot import {error.name or error}: {remedy}", file=sys.stderr)
    sys.exit(2)

if __name__ == "__main__":
    run()

"""Exit with one line if this Python cannot import what the jobs need; imported by every job first."""

import sys

try:
    import deepfm.cli.job  # noqa: F401
except ModuleNotFoundError as error:
    remedy = "run `. .venv/bin/activate` in the project folder (`make env` creates .venv)"
    print(f"error: {sys.executable} cannot import {error.name}: {remedy}", file=sys.stderr)
    sys.exit(2)

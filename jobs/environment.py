"""Exit with status 2 if a package that the jobs need is missing; every job imports this module first."""

import sys

try:
    import deepfm.cli.job  # noqa: F401
except ModuleNotFoundError as error:
    remedy = "run `. .venv/bin/activate` in the project folder (`make env` creates .venv)"
    print(f"error: {sys.executable} cannot import {error.name}: {remedy}", file=sys.stderr)
    sys.exit(2)

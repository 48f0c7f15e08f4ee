"""Exit with status 2 if a package of the jobs is missing or broken; every job imports this module first."""

import sys

try:
    import deepfm.cli.job  # noqa: F401
except ImportError as error:  # a missing package, or one whose libraries do not load
    remedy = "run `. .venv/bin/activate` in the project folder (`make env` creates .venv)"
    print(f"error: {sys.executable} cannot import {error.name or error}: {remedy}", file=sys.stderr)
    sys.exit(2)

"""What many tests share: one Spark session for the whole run, and the real data where it lies beside the project."""

import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT.parent / "shared" / "data"

# Jobs import their neighbour command.py as a script does.
sys.path.insert(0, str(ROOT / "jobs"))


@pytest.fixture(scope="session")
def spark():
    """Real Spark with two slots, the local profile's properties and little memory."""
    from command import load_profile, spark_session

    os.environ.pop("SPARK_HOME", None)
    with spark_session(load_profile(str(ROOT / "conf/profile/local.yaml")), "tests") as session:
        yield session


@pytest.fixture(scope="session")
def real_data():
    """The folder of real click logs; tests that need it are skipped where it is absent."""

    def file(name: str) -> Path:
        path = DATA / name
        if not path.exists():
            pytest.skip(f"{name} is not beside this project")
        return path

    return file

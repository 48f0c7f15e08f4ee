"""The package and the ranges of its requirements; requirements.lock pins the versions that the tests use."""

import re
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
# Read as text: importing the package needs its requirements.
PACKAGE = ROOT / "deepfm" / "__init__.py"
VERSION = re.search(r'^__version__ = "(.+)"$', PACKAGE.read_text(encoding="utf-8"), re.MULTILINE)[1]


class BuildWithConf(build_py):
    """Copies conf/ into the package; an editable installation finds it next to the package."""

    def run(self):
        super().run()
        if not self.editable_mode:
            shutil.copytree(ROOT / "conf", Path(self.build_lib) / "deepfm" / "conf", dirs_exist_ok=True)


setup(
    name="deepfm-spark",
    version=VERSION,
    description="Click-through-rate models trained with Horovod and scored with Spark",
    license_expression="Apache-2.0",
    license_files=["LICENSE"],
    packages=find_packages(include=["deepfm", "deepfm.*"]),
    package_data={"deepfm": ["py.typed"], "deepfm.cli.spark": ["log4j2.properties"]},
    cmdclass={"build_py": BuildWithConf},
    entry_points={"console_scripts": ["deepfm = deepfm.__main__:run"]},
    python_requires=">=3.10,<3.13",
    install_requires=[
        "click",
        "cloudpickle",
        "fsspec",
        "jinja2",
        "matplotlib",
        # 3.18 removes the file store; models are registered in a database or on a server.
        "mlflow>=3.8,<3.18",
        "numpy<2",  # pyarrow 14 was built for NumPy 1
        "optuna",
        "packaging",
        "pandas<3",
        "petastorm==0.13.1",
        "psutil",
        # Petastorm uses functions removed in pyarrow 15; before 14.0.1 a file can run code (CVE-2023-47248).
        "pyarrow>=14.0.1,<15",
        "pydantic>=2",
        "pyspark>=3.5,<4.1",  # 4.1 requires pyarrow 15
        "pyyaml",
        "rich",
        "safetensors",
        "torch>=2.6",
    ],
    extras_require={
        "audit": ["pip-audit", "tomli; python_version < '3.11'"],  # `make audit` installs it in build/audit
        "docs": ["mkdocs-material", "mkdocstrings[python]"],  # `make docs` installs docs/requirements.txt
        # Its build uses C++14, which cannot compile any torch of this range; `make env` builds it with the
        # standard of the installed torch.
        "horovod": ["horovod==0.28.1"],
        "notebooks": ["ipykernel", "scikit-learn"],
        "server": ["flask-wtf", "psycopg2-binary"],  # an MLflow server with PostgreSQL and basic auth
        # Drivers of object stores, each made for versions of fsspec: s3fs of the same version only.
        "s3": ["s3fs"],
        "gcs": ["gcsfs"],
        "azure": ["adlfs"],
        "pack": ["venv-pack"],  # archive of the environment for executors
        "test": [
            *("flask-cors", "moto[s3]", "s3fs"),  # an S3 server on loopback
            *("hypothesis", "mypy", "nbclient", "pytest", "ruff", "scikit-learn"),
        ],
    },
)

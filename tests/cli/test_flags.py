"""Every flag that an error or a log line names exists."""

import ast
import re
from pathlib import Path

import click
import pytest

from deepfm.cli.build_features import build_features
from deepfm.cli.compare import compare
from deepfm.cli.demo import demo
from deepfm.cli.evaluate import evaluate
from deepfm.cli.operations.clean import clean
from deepfm.cli.operations.describe import describe
from deepfm.cli.operations.doctor import doctor
from deepfm.cli.operations.init import init
from deepfm.cli.operations.status import status
from deepfm.cli.promote import promote
from deepfm.cli.score import score
from deepfm.cli.synthetic import synthetic
from deepfm.cli.train import train
from deepfm.cli.tune import tune

PACKAGE = Path(__file__).resolve().parents[2] / "deepfm"
JOBS = (
    build_features,
    clean,
    compare,
    demo,
    describe,
    doctor,
    evaluate,
    init,
    promote,
    score,
    status,
    synthetic,
    train,
    tune,
)
#: Flags of git, pip, spark-submit and mlflow, in commands that an error or the code contains.
OTHER_PROGRAMS = {
    "--abbrev", "--always", "--artifacts-destination", "--backend-store-uri", "--dirty", "--driver-memory",
    "--exclude", "--experiment-id", "--run-id", "--help", "--host", "--port", "--master",
}  # fmt: skip
FLAG = re.compile(r"(?<![\w-])--[a-z][a-z-]+")


def flags_of(command: click.Command) -> set[str]:
    return {flag for option in command.params for flag in option.opts}


def texts_of(path: Path) -> list[str]:
    """Texts in the code of a module, without docstrings; values in f-strings are left out."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    bodies = (node.body for node in ast.walk(tree) if isinstance(getattr(node, "body", None), list))
    docstrings = {id(body[0].value) for body in bodies if body and isinstance(body[0], ast.Expr)}
    joined = [node for node in ast.walk(tree) if isinstance(node, ast.JoinedStr)]
    parts = {id(part) for node in joined for part in node.values}
    texts = [
        "".join(part.value if isinstance(part, ast.Constant) else "{}" for part in node.values)
        for node in joined
    ]
    for node in ast.walk(tree):
        is_text = isinstance(node, ast.Constant) and isinstance(node.value, str)
        if is_text and id(node) not in docstrings | parts:
            texts.append(node.value)
    return texts


def test_a_flag_in_a_message_exists():
    known = set().union(*map(flags_of, JOBS)) | OTHER_PROGRAMS
    unknown = {
        (path.name, flag)
        for path in sorted(PACKAGE.rglob("*.py"))
        for text in texts_of(path)
        for flag in set(FLAG.findall(text)) - known
    }
    assert unknown == set()


@pytest.mark.parametrize("name", ["scoring/live", "scoring/labels", "scoring/days", "tracking/experiments"])
def test_a_flag_in_a_message_of_evaluate_is_its_own_or_named_with_its_job(name):
    for text in texts_of(PACKAGE / f"{name}.py"):
        if re.search(r"\w+\.py [^;]*--", text) or "mlflow " in text:
            continue
        other_flags = set(FLAG.findall(text)) - flags_of(evaluate)
        # A text that starts with a flag is about that flag, of the job that has it.
        assert not other_flags or text.startswith("--"), text

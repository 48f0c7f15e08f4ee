"""What is kept of a training until it is registered, and of what it says that it was."""

import json
import logging

import pytest

from deepfm.errors import UserError
from deepfm.model_settings import ModelSettings
from deepfm.registry.training_run import keep_outcome, kept_outcome, require_same_training
from deepfm.training.course import Epoch, Training
from deepfm.training.metrics import Metrics
from deepfm.training.outcome import Outcome

METRICS = Metrics(num_rows=2, logloss=0.5, auc=0.75, ctr=0.5, mean_probability=0.25, ece=0.25)
OUTCOME = Outcome(Training([Epoch(1, 0.6, METRICS, 100.0, 1.0)], best=1), METRICS, METRICS, 7)


class Manifest:
    """All of it that tells datasets apart."""

    def __init__(self, digest):
        self.digest = digest


def settings(**deep):
    training = {"batch_size": 8, "max_epochs": 1, "learning_rate": 0.01}
    content = {"model": "deepfm", "embedding_dim": 2, "deep": {"hidden_units": [4], **deep}}
    return ModelSettings.model_validate({**content, "training": training})


@pytest.fixture
def run_url(tmp_path):
    """Of a run that was trained on dataset d."""
    keep_outcome(f"file://{tmp_path}", OUTCOME, settings(), Manifest("d"))
    return f"file://{tmp_path}"


def test_an_outcome_that_was_kept_comes_back(run_url):
    assert kept_outcome(run_url) == OUTCOME


def test_a_trained_run_is_taken_up_with_what_it_was_trained_with(run_url):
    require_same_training(run_url, settings(), Manifest("d"))


@pytest.mark.parametrize(
    ("model", "digest", "told"),
    [
        (settings(activation="tanh"), "d", "expected deep {.*'relu'.*}, of which .* found {.*'tanh'"),
        (settings(), "e", "expected dataset d, of which its trained weights are, found e; give the --model"),
    ],
    ids=["settings", "dataset"],
)
def test_trained_weights_are_not_taken_for_those_of_other_settings_or_rows(run_url, model, digest, told):
    with pytest.raises(UserError, match=told):
        require_same_training(run_url, model, Manifest(digest))


def test_an_outcome_that_does_not_say_what_it_is_of_is_taken_with_a_warning(run_url, tmp_path, caplog):
    document = json.loads((tmp_path / "outcome.json").read_text())
    del document["trained_with"]
    (tmp_path / "outcome.json").write_text(json.dumps(document))
    with caplog.at_level(logging.WARNING):
        require_same_training(run_url, settings(), Manifest("e"))
    assert "does not say what was trained" in caplog.text


def test_a_run_that_is_not_trained_yet_is_left_to_its_checkpoints(tmp_path):
    require_same_training(f"file://{tmp_path}", settings(), Manifest("d"))

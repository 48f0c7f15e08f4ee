"""Small models that train on the small dataset in a second."""

import pytest
import yaml

TRAINING = {"batch_size": 8, "max_epochs": 2, "patience": 2, "learning_rate": 0.01}


@pytest.fixture
def models(tmp_path):
    """A folder with YAMLs of lr, fm, fnn and deepfm; models(fm={"embedding_dim": 3}) changes one."""

    def write(**changes):
        settings = {
            "lr": {},
            "fm": {"embedding_dim": 2},
            "fnn": {"embedding_dim": 2, "deep": {"hidden_units": [4]}},
            "deepfm": {"embedding_dim": 2, "deep": {"hidden_units": [4]}},
        }
        for name, own in settings.items():
            content = {"model": name, **own, "training": TRAINING, **changes.get(name, {})}
            (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(content))
        return tmp_path

    return write

"""Plans of studies over a small model."""

import pytest

from deepfm.dataset.manifest import InputLog, Manifest, SplitPart
from deepfm.experiments.tune.plan import build_plan
from deepfm.experiments.tune.space import SearchSpace
from deepfm.settings.loader import parse_settings
from deepfm.settings.model import ModelSettings

MODEL = {
    "model": "deepfm",
    "embedding_dim": 2,
    "deep": {"hidden_units": [4]},
    "training": {"batch_size": 8, "max_epochs": 4, "learning_rate": 0.01},
}


@pytest.fixture
def base():
    return parse_settings(MODEL, ModelSettings, "base")


@pytest.fixture
def manifest(small_data):
    part = SplitPart(num_rows=1, num_clicks=0, days={}, files=(), digest="0")
    return Manifest(
        created_at="2026-01-08T00:00:00+00:00",
        data=small_data,
        num_ids=(4, 4),
        vocabulary="0",
        splits=dict.fromkeys(("train", "valid", "test"), part),
        input=InputLog(url="file:///log", days={}, rows_read=3, bad_by_reason={}),
    )


@pytest.fixture
def plan_of(base, manifest):
    """plan_of({"deep.dropout": [0, 0.5]}, seeds=3) -> a plan; a list is the values of a parameter."""

    def make(parameters, *, seeds=1, search="grid", monitor="logloss", **settings):
        parameters = {
            name: content if isinstance(content, dict) else {"values": content}
            for name, content in parameters.items()
        }
        space = parse_settings(
            {"search": search, "parameters": parameters, **settings}, SearchSpace, "space.yaml"
        )
        training = base.training.model_copy(update={"monitor": monitor})
        model = base.model_copy(update={"training": training})
        return build_plan("file:///dataset", manifest, model, space, num_workers=2, num_seeds=seeds)

    return make

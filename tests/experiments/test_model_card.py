"""Model card as Markdown and as a page."""

import math
import re
from dataclasses import replace

import pytest
import torch

from deepfm.dataset.manifest import InputLog, Manifest, SplitPart
from deepfm.experiments import model_card
from deepfm.experiments.result_plots import result_figures
from deepfm.metrics.binary import BinaryMetrics
from deepfm.metrics.calibration import Calibration
from deepfm.metrics.slices import SliceMetrics
from deepfm.settings.data import DataSettings
from deepfm.settings.loader import parse_settings
from deepfm.settings.model import ModelSettings
from deepfm.training.result import TrainingResult
from deepfm.training.state import EpochResult, TrainingHistory

SETTINGS = ModelSettings.model_validate(
    {"model": "fm", "embedding_dim": 2, "training": {"batch_size": 8, "max_epochs": 3, "learning_rate": 0.1}}
)
#: (field, value, metrics): a value with a cell separator, and one without clicks.
SLICES = [
    ("site", "a|b<i>", SliceMetrics(2, 1200, 0.25, 0.2, 0.5, 0.75)),
    ("site", "(missing)", SliceMetrics(0, 30, 0.0, 0.1, 0.105, math.nan)),
]


@pytest.fixture
def finished():
    """(manifest, result) of a training whose log has an HTML tag in its name."""
    binary_metrics = BinaryMetrics()
    binary_metrics.update(torch.tensor([0.3, -0.4, 0.8]), torch.tensor([1.0, 0.0, 0.0]))
    metrics = binary_metrics.compute(gauc=0.625)
    result = TrainingResult(
        TrainingHistory([EpochResult(1, 0.6, metrics, 1, 1)], 1),
        metrics,
        metrics,
        31,
        {},
        binary_metrics.score_counts(),
    )
    data = {
        "format": "delimited",
        "columns": ["label", "C"],
        "fields": [{"kind": "category", "names": ["C"]}],
    }
    part = SplitPart(num_rows=1234, num_clicks=0, days={}, files=(), digest="0")
    manifest = Manifest(
        created_at="2026-01-08T00:00:00+00:00",
        data=parse_settings(data, DataSettings, "here"),
        num_ids=(10,),
        vocabulary="0",
        splits=dict.fromkeys(("train", "valid", "test"), part),
        input=InputLog(
            url="file:///<script>", days={"test": ("2026-01-07",) * 2}, rows_read=3, bad_by_reason={}
        ),
    )
    return manifest, result


def test_the_card_contains_training_data_and_metrics(finished):
    text = model_card.markdown(model_card.content("ctr", SETTINGS, *finished))
    for line in (
        "# Model ctr",
        "- Model: fm, 31 weights, 10 ids",
        "- Fields: 1 category",
        "- Days of test: 2026-01-07",
        "- Impressions of train: 1,234",
        "| GAUC | 0.62500 | 0.62500 |",
        "## Intended use",
        "## Limits",
    ):
        assert line in text.splitlines()


def test_the_page_contains_its_plots_and_escapes_data(finished):
    page = model_card.html(
        model_card.content("ctr", SETTINGS, *finished, SLICES), result_figures(finished[1])
    )
    assert len(re.findall(r'src="data:image/png;base64,', page)) == 6
    assert "<script>" not in page
    assert "file:///&lt;script&gt;" in page
    assert "<code>a|b&lt;i&gt;</code>" in page


def test_each_slice_has_a_row(finished):
    text = model_card.markdown(model_card.content("ctr", SETTINGS, *finished, SLICES))
    assert r"| site | a\|b\<i\> | 1,200 | 0.2500 | 0.5000 | 0.7500 | 0.8000 |" in text.splitlines()
    assert "| site | (missing) | 30 | 0.0000 | 0.1050 |  |  |" in text.splitlines()
    assert "By value" not in model_card.markdown(model_card.content("ctr", SETTINGS, *finished))


# --- stages and calibration


STAGED = ModelSettings.model_validate(
    {
        "model": "deepfm",
        "embedding_dim": 2,
        "training": {"batch_size": 8, "max_epochs": 3, "learning_rate": 0.1, "recipe": "staged"},
    }
)


def staged(finished, lr_logloss, fm_logloss, logloss):
    """A result with a best epoch of each stage; `logloss` None: no epoch of the last was better."""
    manifest, result = finished

    def history(value, **baseline):
        epoch = EpochResult(1, 0.6, replace(result.valid, logloss=value), 1, 12.0)
        return TrainingHistory([epoch], **baseline)

    fm = history(fm_logloss, best=1)
    kept = {"best": 0, "baseline": fm.best_valid} if logloss is None else {"best": 1}
    last = history(logloss or 9.0, **kept)
    return manifest, replace(result, history=last, earlier={"lr": history(lr_logloss, best=1), "fm": fm})


def card_of(finished, settings=STAGED):
    content = model_card.content("ctr", settings, *finished)
    return model_card.markdown(content), model_card.html(content, {})


def test_the_card_shows_the_metrics_of_each_stage(finished):
    text, page = card_of(staged(finished, 0.5, 0.45, 0.4))
    auc = finished[1].valid.auc
    assert f"| lr | 1 | 1 | 0.50000 | {auc:.5f} |" in text and "| deepfm | 1 | 1 | 0.40000 |" in text
    assert "| 12 s |" in text and "<td>0.45000</td>" in page


@pytest.mark.parametrize(
    ("losses", "simpler"),
    [
        ((0.5, 0.45, None), "fm"),
        ((0.5, 0.45, 0.4499), "fm"),
        ((0.45, 0.45, None), "lr"),
        ((0.5, 0.45, 0.44), ""),
    ],
)
def test_the_card_warns_if_a_simpler_model_is_as_good(finished, losses, simpler):
    for text in card_of(staged(finished, *losses)):
        assert ("Warning:" in text) == bool(simpler)
        assert not simpler or f"On the validation rows {simpler}, a simpler model, is as good." in text


def test_a_model_with_one_stage_has_no_table_of_stages(finished):
    for text in card_of(finished, SETTINGS):
        assert "Stages" not in text and "Warning" not in text


def test_the_card_tells_calibration_before_and_after(finished):
    manifest, result = finished
    before = replace(result.test, logloss=0.9, mean_probability=2 * result.test.ctr)
    calibrated = replace(result, calibration=Calibration("platt", 0.9, 0.1), uncalibrated={"test": before})
    text, _ = card_of((manifest, calibrated), SETTINGS)
    assert f"logloss 0.90000 and {result.test.logloss:.5f}" in text
    assert f"mean probability / CTR 2.0000 and {result.test.calibration:.4f}" in text


def test_the_card_gives_the_reason_why_a_model_is_not_calibrated(finished):
    manifest, result = finished
    text, _ = card_of((manifest, replace(result, not_calibrated_because="expected more clicks")), SETTINGS)
    assert "Calibration: none: expected more clicks" in text

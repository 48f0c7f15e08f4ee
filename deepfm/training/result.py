"""Training result and its JSON serialization."""

import json
from dataclasses import asdict, dataclass, field
from typing import Any

from deepfm.metrics.binary import Metrics, ScoreCounts
from deepfm.metrics.calibration import Calibration
from deepfm.metrics.slices import SliceMetrics
from deepfm.training.state import EpochResult, TrainingHistory, history_from_dict


@dataclass(frozen=True)
class TrainingResult:
    """Result of a training; the weights to keep are in `run_url`/weights.safetensors."""

    history: TrainingHistory
    valid: Metrics  # of the kept weights, evaluated again, calibrated
    test: Metrics | None  # None if the training was stopped early, by a pruner
    num_weights: int
    # Stages before the last, in order, by model: those of a staged model, or the FM of an FNN.
    earlier: dict[str, TrainingHistory] = field(default_factory=dict)
    test_scores: ScoreCounts = field(default_factory=list)
    test_fields: list[list[float]] = field(default_factory=list)  # (F, NUM_KINDS), see metrics.field_counts
    test_slices: dict[str, list[SliceMetrics]] = field(default_factory=dict)  # by field
    calibration: Calibration | None = None  # None: not fitted
    not_calibrated_because: str = ""  # empty: fitted, or switched off
    uncalibrated: dict[str, Metrics] = field(default_factory=dict)  # by split, if calibrated

    @property
    def stages(self) -> dict[str, TrainingHistory]:
        """All stages in order, the last under the name of no model."""
        return {**self.earlier, "": self.history}

    @property
    def best_epoch(self) -> EpochResult | None:
        """Epoch whose weights are kept, of an earlier stage if the later ones did not improve them.

        None if no epoch improved the weights of a warm start.
        """
        stages = reversed(self.stages.values())
        return next((stage.epochs[stage.best - 1] for stage in stages if stage.best), None)

    @property
    def samples_per_s(self) -> float:
        """Samples per second of all workers together over all epochs, without validation."""
        # An epoch that was resumed after its last step has none.
        speeds = [epoch.samples_per_s for epoch in self.history.epochs if epoch.samples_per_s]
        return len(speeds) / sum(1 / speed for speed in speeds) if speeds else 0.0


def result_to_json(result: TrainingResult) -> str:
    """Serialize for the way from worker to driver: numbers only."""
    return json.dumps(asdict(result))


def result_from_json(text: str) -> TrainingResult:
    """Parse what `result_to_json` wrote."""
    document = json.loads(text)
    if document.get("first_stage"):  # of an earlier version, which only had that of an FNN
        document["earlier"] = {"fm": document["first_stage"]}
    return TrainingResult(
        history_from_dict(document["history"]),
        Metrics(**document["valid"]),
        document["test"] and Metrics(**document["test"]),
        document["num_weights"],
        {name: history_from_dict(stage) for name, stage in document.get("earlier", {}).items()},
        document["test_scores"],
        document["test_fields"],
        {name: [SliceMetrics(**one) for one in slices] for name, slices in document["test_slices"].items()},
        **_calibration_from_dict(document),
    )


def _calibration_from_dict(document: dict) -> dict[str, Any]:
    """Fields about the calibration; a result of an earlier version has none."""
    calibration = document.get("calibration")
    if calibration:
        calibration["knots"] = tuple(map(tuple, calibration["knots"]))
    return {
        "calibration": calibration and Calibration(**calibration),
        "not_calibrated_because": document.get("not_calibrated_because", ""),
        "uncalibrated": {split: Metrics(**m) for split, m in document.get("uncalibrated", {}).items()},
    }

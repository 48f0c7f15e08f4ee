"""Training result and its JSON serialization."""

import json
from dataclasses import asdict, dataclass, field

from deepfm.metrics.binary import Metrics, ScoreCounts
from deepfm.metrics.slices import SliceMetrics
from deepfm.training.state import EpochResult, TrainingHistory, history_from_dict


@dataclass(frozen=True)
class TrainingResult:
    """Result of a training; the weights to keep are in `run_url`/weights.safetensors."""

    history: TrainingHistory
    valid: Metrics  # of the kept weights, evaluated again
    test: Metrics | None  # None if the training was stopped early, by a pruner
    num_weights: int
    first_stage: TrainingHistory | None = None  # of the FM that an FNN starts from, if trained in this run
    test_scores: ScoreCounts = field(default_factory=list)
    test_fields: list[list[float]] = field(default_factory=list)  # (F, NUM_KINDS), see metrics.field_counts
    test_slices: dict[str, list[SliceMetrics]] = field(default_factory=dict)  # by field

    @property
    def best_epoch(self) -> EpochResult:
        return self.history.epochs[self.history.best - 1]

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
    first_stage = document["first_stage"]
    return TrainingResult(
        history_from_dict(document["history"]),
        Metrics(**document["valid"]),
        document["test"] and Metrics(**document["test"]),
        document["num_weights"],
        first_stage and history_from_dict(first_stage),
        document["test_scores"],
        document["test_fields"],
        {name: [SliceMetrics(**one) for one in slices] for name, slices in document["test_slices"].items()},
    )

"""What a training came to, and its way back from the worker as JSON."""

import json
from dataclasses import asdict, dataclass, field

from deepfm.metrics.binary import Metrics, ScoreCounts
from deepfm.metrics.slices import SliceMetrics
from deepfm.training.state import EpochResult, TrainingHistory, history_from_dict


@dataclass(frozen=True)
class TrainingResult:
    """What a training came to; the best epoch's weights lie in `run_url`/weights.safetensors."""

    history: TrainingHistory
    valid: Metrics  # of the best epoch's weights, evaluated again
    test: Metrics | None  # None: of a training that was stopped, which nobody will use
    num_weights: int
    first_stage: TrainingHistory | None = (
        None  # of the FM that an FNN started from, where it was trained here
    )
    test_scores: ScoreCounts = field(default_factory=list)
    test_fields: list[list[int]] = field(default_factory=list)  # (F, NUM_KINDS), see training.field_tally
    test_slices: dict[str, list[SliceMetrics]] = field(default_factory=dict)  # by field

    @property
    def best_epoch(self) -> EpochResult:
        return self.history.epochs[self.history.best - 1]

    @property
    def samples_per_s(self) -> float:
        """Of all workers together, over all epochs, validation not counted."""
        # An epoch that was taken up again after its last step has none.
        speeds = [epoch.samples_per_s for epoch in self.history.epochs if epoch.samples_per_s]
        return len(speeds) / sum(1 / speed for speed in speeds) if speeds else 0.0


def result_to_json(result: TrainingResult) -> str:
    """For the way back from a worker: numbers only."""
    return json.dumps(asdict(result))


def result_from_json(text: str) -> TrainingResult:
    """What `result_to_json` wrote."""
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
        {
            name: [SliceMetrics(**one) for one in of_field]
            for name, of_field in document["test_slices"].items()
        },
    )

"""What a training came to, and its way back from the worker as JSON."""

import json
from dataclasses import asdict, dataclass, field

from deepfm.metrics.binary import Metrics, ScoreCounts
from deepfm.metrics.slices import SliceMetrics
from deepfm.training.state import Epoch, Training


@dataclass(frozen=True)
class Outcome:
    """What a training came to; the best epoch's weights lie in `run_url`/weights.safetensors."""

    training: Training
    valid: Metrics  # of the best epoch's weights, evaluated again
    test: Metrics | None  # None: of a training that was stopped, which nobody will use
    num_weights: int
    first_stage: Training | None = None  # of the FM that an FNN started from, where it was trained here
    test_scores: ScoreCounts = field(default_factory=list)
    test_fields: list[list[int]] = field(default_factory=list)  # (F, NUM_KINDS), see training.field_tally
    test_slices: dict[str, list[SliceMetrics]] = field(default_factory=dict)  # by field

    @property
    def best_epoch(self) -> Epoch:
        return self.training.epochs[self.training.best - 1]

    @property
    def samples_per_s(self) -> float:
        """Of all workers together, over all epochs, validation not counted."""
        # An epoch that was taken up again after its last step has none.
        speeds = [epoch.samples_per_s for epoch in self.training.epochs if epoch.samples_per_s]
        return len(speeds) / sum(1 / speed for speed in speeds) if speeds else 0.0


def outcome_to_json(outcome: Outcome) -> str:
    """For the way back from a worker: numbers only."""
    return json.dumps(asdict(outcome))


def outcome_from_json(text: str) -> Outcome:
    """What `outcome_to_json` wrote."""
    document = json.loads(text)
    first_stage = document["first_stage"]
    return Outcome(
        training_from(document["training"]),
        Metrics(**document["valid"]),
        document["test"] and Metrics(**document["test"]),
        document["num_weights"],
        first_stage and training_from(first_stage),
        document["test_scores"],
        document["test_fields"],
        {
            name: [SliceMetrics(**one) for one in of_field]
            for name, of_field in document["test_slices"].items()
        },
    )


def training_from(document: dict) -> Training:
    """What Training.as_dict gave."""
    epochs = [Epoch(**{**epoch, "valid": Metrics(**epoch["valid"])}) for epoch in document["epochs"]]
    return Training(epochs, document["best"], document["sent_bytes_per_step"], document.get("stopped", False))

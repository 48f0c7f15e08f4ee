"""An allocation that fails is reported with what to lower."""

import numpy as np
import pytest
import torch

from deepfm.errors import OutOfMemoryError
from deepfm.launch.worker_errors import explain_out_of_memory
from deepfm.settings.model import ModelSettings

SETTINGS = ModelSettings.model_validate(
    {
        "model": "fm",
        "embedding_dim": 16,
        "training": {"batch_size": 4096, "max_epochs": 1, "learning_rate": 0.01},
    }
)


@pytest.mark.parametrize("allocate", [lambda: torch.empty(1 << 50), lambda: np.empty(1 << 50)])
def test_a_failed_allocation_names_what_to_lower(allocate):
    with (
        pytest.raises(
            OutOfMemoryError, match=r"^rank 3 ran out of memory: .*batch_size \(now 4096\).*1,000 ids"
        ),
        explain_out_of_memory(3, SETTINGS, [400, 600]),
    ):
        allocate()


def test_other_errors_are_unchanged():
    with pytest.raises(RuntimeError, match="^something else$"), explain_out_of_memory(0, SETTINGS, [1]):
        raise RuntimeError("something else")

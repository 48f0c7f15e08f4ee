"""Every model, trained by two and four ranks with a share each, ends where one rank ends with all rows."""

from dataclasses import dataclass
from typing import get_args

import pytest
import torch

from deepfm.distributed.collectives import SingleProcess
from deepfm.model_factory import build_model
from deepfm.settings.model import ModelName, ModelSettings
from deepfm.training.loop import LoopConfig, TrainingLoop
from deepfm.training.optimizers.optimizer import Optimizer

NUM_IDS, NUM_CROSSED = (4, 3, 5, 6), 1
SETTINGS = LoopConfig(1, 1, w_reg=0.1, v_reg=0.1)
DEEP = {"embedding_dim": 2, "deep": {"hidden_units": [4, 3], "activation": "tanh"}}
MODELS = {
    "lr": {},
    "lr by ftrl": {},
    "fm by adam_dense": {"embedding_dim": 2},
    "fm by adagrad": {"embedding_dim": 2},
    "fm": {"embedding_dim": 2},
    "fnn": DEEP,
    "ipnn": DEEP,
    "opnn": DEEP,
    "opnn pooled": {**DEEP, "outer": "pooled"},
    "pnn": DEEP,
    "wide_deep": DEEP,
    "fm_dnn": DEEP,
    "dnn": DEEP,
    "deepfm": DEEP,
}


def test_no_model_is_missing_here():
    assert {name.split()[0] for name in MODELS} == set(get_args(ModelName))


@dataclass
class Batch:
    """A global batch of 8 rows, or a rank's share of it."""

    ids: torch.Tensor
    x: torch.Tensor
    labels: torch.Tensor
    num_rows_all_ranks: int = 8

    @classmethod
    def of(cls, step):
        random = torch.Generator().manual_seed(step)
        ids = torch.stack([torch.randint(0, n, (8,), generator=random) for n in NUM_IDS], dim=1)
        x = torch.randn(8, len(NUM_IDS), generator=random, dtype=torch.float64)
        return cls(ids, x, (ids.sum(dim=1) % 2).double())

    def __getitem__(self, rows):
        return Batch(self.ids[rows], self.x[rows], self.labels[rows])


def trained(name, collectives, rows):
    """Weights after four steps on these rows of each batch, and the loglosses."""
    settings = {"model": name.split()[0], **MODELS[name]}
    settings["training"] = {"batch_size": 8, "max_epochs": 1, "learning_rate": 0.05}
    model = build_model(ModelSettings.model_validate(settings), NUM_IDS, NUM_CROSSED).double()
    # Ranks that are threads share torch's seed; float64, so that sums in another order agree to 1e-12.
    random = torch.Generator().manual_seed(0)
    for weight in model.parameters():
        weight.data = 0.3 * torch.randn(weight.shape, generator=random, dtype=torch.float64)
    kind = name.split()[-1] if " by " in name else "adam"
    ftrl = {"beta": 1.0, "l1": 0.01, "l2": 0.1} if kind == "ftrl" else None
    optimizer = Optimizer(model, 0.05, kind=kind, table_l2=0.1 * (kind == "adam_dense"), ftrl=ftrl)
    loop = TrainingLoop(model, optimizer, collectives, SETTINGS)
    losses = [loop.step(Batch.of(step)[rows]) for step in range(4)]
    return model.state_dict(), losses


@pytest.mark.parametrize("cuts", [(5,), (2, 4, 6)], ids=["2 ranks", "4 ranks"])
@pytest.mark.parametrize("name", MODELS)
def test_ranks_with_a_share_of_the_rows_end_like_one_rank_with_all(in_ranks, name, cuts):
    alone, losses = trained(name, SingleProcess(), slice(None))
    shares = torch.arange(8).tensor_split(cuts)
    (one, one_losses), *others = in_ranks(
        len(shares), lambda collectives: trained(name, collectives, shares[collectives.rank])
    )
    assert one_losses == pytest.approx(losses, rel=1e-12)
    for other, other_losses in others:
        assert other_losses == one_losses
        assert all(torch.equal(one[key], other[key]) for key in alone)
    for key in alone:
        torch.testing.assert_close(one[key], alone[key], rtol=0, atol=1e-12)

"""Models with a grown vocabulary: before any training their predictions do not change."""

import pytest
import torch

from deepfm.model_factory import build_model
from deepfm.models.grow_tables import Growth
from deepfm.settings.model import ModelSettings
from deepfm.training.optimizers.optimizer import Optimizer

OLD, NEW, CROSSED = (3, 2, 4), (5, 2, 5), 4
#: The first field has two new ids, the last one. New ids copy id 1 (unknown), in the last field id 2.
PREVIOUS = [torch.tensor([0, 1, 2, 1, 1]), torch.tensor([0, 1]), torch.tensor([0, 1, 2, 3, 2])]
GROWTH = Growth([*PREVIOUS, torch.arange(CROSSED)], [*OLD, CROSSED])


def build(name, num_ids):
    settings = {"model": name, "training": {"batch_size": 4, "max_epochs": 1, "learning_rate": 0.1}}
    if name != "lr":
        settings["embedding_dim"] = 2
    if name not in ("lr", "fm"):
        settings["deep"] = {"hidden_units": [3]}
    model = build_model(ModelSettings.model_validate(settings), [*num_ids, CROSSED], 1)
    for weight in model.parameters():
        torch.nn.init.normal_(weight)
    return model


def all_impressions():
    ids = torch.cartesian_prod(*(torch.arange(n) for n in (*NEW, CROSSED)))
    old_ids = torch.stack([PREVIOUS[field][ids[:, field]] for field in range(3)] + [ids[:, 3]], dim=1)
    return ids, old_ids


@pytest.mark.parametrize("name", ["lr", "fm", "fnn", "pnn", "wide_deep", "fm_dnn", "dnn", "deepfm"])
def test_a_grown_model_scores_each_row_as_before(name):
    torch.manual_seed(1)
    old, new = build(name, OLD), build(name, NEW)
    ids, old_ids = all_impressions()
    assert not torch.equal(new(ids), old(old_ids))
    new.load_state_dict(GROWTH.weights(new, old.state_dict()))
    assert torch.equal(new(ids), old(old_ids))


def test_a_model_on_the_meta_device_suffices_to_grow_weights():
    settings = ModelSettings.model_validate(
        {
            "model": "fm",
            "embedding_dim": 2,
            "training": {"batch_size": 4, "max_epochs": 1, "learning_rate": 0.1},
        }
    )
    old, new = (build_model(settings, num_ids, num_slots=(1, 3, 1)) for num_ids in (OLD, NEW))
    torch.nn.init.normal_(old.linear.weights.table.weight)
    with torch.device("meta"):
        shape = build_model(settings, NEW, num_slots=(1, 3, 1))
    new.load_state_dict(Growth(PREVIOUS, OLD).weights(shape, old.state_dict()))
    # The second field is a list of up to three values: one, two, none.
    ids = torch.tensor([[4, 0, -1, -1, 4], [2, 1, 0, -1, 3], [3, -1, -1, -1, 0]])
    old_ids = torch.tensor([[1, 0, -1, -1, 2], [2, 1, 0, -1, 3], [1, -1, -1, -1, 0]])
    assert torch.equal(new(ids), old(old_ids))


def trained_once(model):
    optimizer = Optimizer(model, 0.1)
    ids = torch.tensor([[2, 1, 3, 0], [1, 0, 2, 3]])
    model(ids).sum().backward()
    optimizer.step()
    return optimizer


def test_the_optimizer_state_is_kept_for_old_ids_and_zero_for_new_ids():
    old, new = build("fm", OLD), build("fm", NEW)
    before, after = trained_once(old).state(), Optimizer(new, 0.1)
    after.load_state(GROWTH.moments(new, before))
    state = after.state()
    assert set(state) == set(before)
    moments, grown = (state_dict["embedding.table.weight/exp_avg"] for state_dict in (before, state))
    # Rows of the old table: 0 to 2, 3 and 4, 5 to 8.
    assert grown.tolist() == [
        *moments[:3].tolist(), [0, 0], [0, 0], *moments[3:].tolist(), [0, 0]
    ]  # fmt: skip
    assert moments.any()
    for key in ("embedding.table.weight/step", "linear.bias/step", "linear.bias/exp_avg"):
        assert torch.equal(state[key], before[key])


def test_with_ftrl_new_ids_start_from_the_copied_weights():
    old, new = build("lr", OLD), build("lr", NEW)
    for weight in old.parameters():
        torch.nn.init.zeros_(weight)
    ftrl = {"kind": "ftrl", "ftrl": {"beta": 1e6}}  # makes very small steps
    before, after = Optimizer(old, 1.0, kind="ftrl"), Optimizer(new, 0.1, **ftrl)
    old(torch.tensor([[2, 1, 3, 0], [1, 0, 2, 3]])).sum().backward()
    before.step()
    weights = GROWTH.weights(new, old.state_dict())
    new.load_state_dict(weights)
    after.load_state(GROWTH.moments(new, before.state()))
    after.refit_state_to_weights()
    new(all_impressions()[0]).mean().backward()
    after.step()
    table = "linear.weights.table.weight"
    assert weights[table][3].abs() > 0.1  # a new id of the first field
    torch.testing.assert_close(new.state_dict()[table], weights[table], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "settings", [{}, {"kind": "adam_dense"}, {"kind": "adagrad"}, {"kind": "ftrl", "ftrl": {"beta": 1.0}}]
)
def test_a_restored_optimizer_continues_as_without_interruption(settings):
    torch.manual_seed(2)
    model = build("lr", OLD)
    ids = torch.tensor([[2, 1, 3, 0], [1, 0, 2, 3]])
    weights = []
    for interrupted in (False, True):
        copy = build("lr", OLD)
        copy.load_state_dict(model.state_dict())
        optimizer = Optimizer(copy, 0.1, **settings)
        for step in range(4):
            if interrupted and step == 2:
                state = {key: value.clone() for key, value in optimizer.state().items()}
                optimizer = Optimizer(copy, 0.1, **settings)
                optimizer.load_state(state)
            optimizer.zero_grad()
            copy(ids[step % 2 :]).square().sum().backward()
            optimizer.step()
        weights.append(copy.state_dict())
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])

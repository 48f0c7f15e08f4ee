"""Models whose fields got more ids: before any training they say what they said before."""

import pytest
import torch

from deepfm.model_factory import build_model
from deepfm.models.grow_tables import Growth
from deepfm.settings.model import ModelSettings
from deepfm.training.optimizer import Optimizer

OLD, NEW, CROSSED = (3, 2, 4), (5, 2, 5), 4
#: Of the first field two ids are new, of the last one; id 1 is the unknown one, and 2 of the last field too.
PREVIOUS = [torch.tensor([0, 1, 2, 1, 1]), torch.tensor([0, 1]), torch.tensor([0, 1, 2, 3, 2])]
GROWTH = Growth([*PREVIOUS, torch.arange(CROSSED)], [*OLD, CROSSED])


def built(name, num_ids):
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
    before = torch.stack([PREVIOUS[field][ids[:, field]] for field in range(3)] + [ids[:, 3]], dim=1)
    return ids, before


@pytest.mark.parametrize("name", ["lr", "fm", "fnn", "pnn", "wide_deep", "fm_dnn", "dnn", "deepfm"])
def test_a_model_that_grew_scores_every_row_as_before(name):
    torch.manual_seed(1)
    old, new = built(name, OLD), built(name, NEW)
    ids, before = all_impressions()
    assert not torch.equal(new(ids), old(before))
    new.load_state_dict(GROWTH.weights(new, old.state_dict()))
    assert torch.equal(new(ids), old(before))


def test_a_model_of_lists_grows_by_a_model_that_has_shapes_only():
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
    # Of the second field, a list of up to three values: one, two, none.
    ids = torch.tensor([[4, 0, -1, -1, 4], [2, 1, 0, -1, 3], [3, -1, -1, -1, 0]])
    before = torch.tensor([[1, 0, -1, -1, 2], [2, 1, 0, -1, 3], [1, -1, -1, -1, 0]])
    assert torch.equal(new(ids), old(before))


def trained_once(model):
    optimizer = Optimizer(model, 0.1)
    ids = torch.tensor([[2, 1, 3, 0], [1, 0, 2, 3]])
    model(ids).sum().backward()
    optimizer.step()
    return optimizer


def test_the_optimizer_remembers_old_ids_and_nothing_of_new_ones():
    old, new = built("fm", OLD), built("fm", NEW)
    before, after = trained_once(old).state(), Optimizer(new, 0.1)
    after.load_state(GROWTH.moments(new, before))
    state = after.state()
    assert set(state) == set(before)
    moments, grown = (held["embedding.table.weight/exp_avg"] for held in (before, state))
    # Rows of the old table: 0 to 2, 3 and 4, 5 to 8.
    assert grown.tolist() == [
        *moments[:3].tolist(), [0, 0], [0, 0], *moments[3:].tolist(), [0, 0]
    ]  # fmt: skip
    assert moments.any()
    for key in ("embedding.table.weight/step", "linear.bias/step", "linear.bias/exp_avg"):
        assert torch.equal(state[key], before[key])


def test_by_ftrl_new_ids_learn_from_the_weights_they_took_over():
    old, new = built("lr", OLD), built("lr", NEW)
    for weight in old.parameters():
        torch.nn.init.zeros_(weight)
    ftrl = {"kind": "ftrl", "ftrl": {"beta": 1e6}}  # whose steps move next to nothing
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
def test_an_optimizer_goes_on_as_if_it_had_not_been_interrupted(settings):
    torch.manual_seed(2)
    model = built("lr", OLD)
    ids = torch.tensor([[2, 1, 3, 0], [1, 0, 2, 3]])
    weights = []
    for interrupted in (False, True):
        copy = built("lr", OLD)
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

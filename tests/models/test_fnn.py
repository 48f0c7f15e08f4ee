"""FNN (Zhang, Du and Wang 2016): an MLP initialized with the weights of a trained FM."""

import pytest
import torch

from deepfm.models.deepfm import DeepFM
from deepfm.models.fm import FM
from deepfm.models.fnn import FNN
from deepfm.models.lr import LogisticRegression

NUM_IDS = (3, 2)


def fnn_by_definition(one):
    """Input z = (w_0, w_1, v_1, w_2, v_2, …), each field multiplied by its x."""
    z = [one.w_0]
    for i in one.fields:
        z.append(one.w[i] * one.x[i])
        for k in one.dims:
            z.append(one.v[i][k] * one.x[i])
    return one.deep(z)


def test_logit_and_gradients_equal_an_mlp_over_z(equals_definition):
    equals_definition(lambda case: FNN(case.num_ids, case.k, **case.deep), fnn_by_definition)


def test_z_is_the_bias_then_weight_and_embedding_of_each_field():
    fnn = FNN([2, 1], 2, hidden_units=())
    fnn.linear.bias.data.fill_(1.0)
    fnn.linear.weights.table.weight.data = torch.tensor([[0.0], [2.0], [5.0]])
    fnn.embedding.table.weight.data = torch.tensor([[0.0, 0.0], [3.0, 4.0], [6.0, 7.0]])
    # Each entry of z becomes one digit.
    fnn.deep.layers[0].weight.data = torch.tensor([[1e6, 1e5, 1e4, 1e3, 1e2, 1e1, 1e0]])
    assert fnn(torch.tensor([[1, 0]])).item() == 1_234_567


def with_distinct_weights(model):
    """Set each weight to a different number."""
    for number, weight in enumerate(model.parameters(), start=1):
        weight.data = number + torch.arange(weight.numel()).reshape(weight.shape) / 100
    return model


def test_start_from_copies_bias_weights_and_embeddings_of_the_fm():
    fm, fnn = with_distinct_weights(FM(NUM_IDS, 2)), FNN(NUM_IDS, 2, hidden_units=(3,))
    fnn.start_from(fm.state_dict())
    assert torch.equal(fnn.linear.bias, fm.linear.bias)
    assert torch.equal(fnn.linear.weights.table.weight, fm.linear.weights.table.weight)
    assert torch.equal(fnn.embedding.table.weight, fm.embedding.table.weight)


@pytest.mark.parametrize("batch_norm", [False, True])
def test_start_from_does_not_change_the_deep_part(batch_norm):
    fnn = FNN(NUM_IDS, 2, hidden_units=(3,), batch_norm=batch_norm)
    before = {name: weight.clone() for name, weight in fnn.deep.state_dict().items()}
    fnn.start_from(with_distinct_weights(FM(NUM_IDS, 2)).state_dict())
    assert all(torch.equal(before[name], weight) for name, weight in fnn.deep.state_dict().items())


def test_training_afterwards_does_not_change_the_fm():
    fm, fnn = with_distinct_weights(FM(NUM_IDS, 2)), FNN(NUM_IDS, 2, hidden_units=(3,))
    fnn.start_from(fm.state_dict())
    fnn.embedding.table.weight.data.zero_()
    assert fm.embedding.table.weight.abs().min() > 0


@pytest.mark.parametrize(
    "other",
    [
        FM(NUM_IDS, 3),
        FM((3, 3), 2),
        FM((3,), 2),
        LogisticRegression(NUM_IDS),
        DeepFM(NUM_IDS, 2, hidden_units=(3,)),
    ],
    ids=["another K", "more ids", "fewer fields", "LR, without embeddings", "DeepFM, with a deep part"],
)
def test_weights_of_another_shape_or_model_are_rejected(other):
    with pytest.raises(RuntimeError, match="Error"):
        FNN(NUM_IDS, 2, hidden_units=(3,)).start_from(other.state_dict())


def test_after_start_from_all_weights_are_trained():
    fnn = FNN(NUM_IDS, 2, hidden_units=(3,), activation="tanh")
    fnn.start_from(with_distinct_weights(FM(NUM_IDS, 2)).state_dict())
    fnn(torch.tensor([[0, 0], [1, 1], [2, 0]])).sum().backward()
    assert all(weight.grad is not None for weight in fnn.parameters())

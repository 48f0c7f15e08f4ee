"""DeepFM (Guo et al. 2017): an FM and a deep part that share their embeddings."""

from itertools import combinations

import torch

from deepfm.models.deepfm import DeepFM

NUM_IDS = (3, 4, 2)
IDS = torch.tensor([[0, 0, 0], [2, 3, 1], [1, 1, 0], [2, 0, 1]])


def deepfm_by_definition(one):
    """Equations 1 to 4, before the sigmoid."""
    y_fm = one.w_0
    for i in one.fields:
        y_fm = y_fm + one.w[i] * one.x[i]
    for i, j in combinations(one.fields, 2):
        for k in one.dims:
            y_fm = y_fm + one.v[i][k] * one.v[j][k] * one.x[i] * one.x[j]
    y_dnn = one.deep([one.v[i][k] * one.x[i] for i in one.fields for k in one.dims])
    return y_fm + y_dnn


def test_logit_and_gradients_equal_equations_1_to_4(equals_definition):
    equals_definition(lambda case: DeepFM(case.num_ids, case.k, **case.deep), deepfm_by_definition)


def model(**deep):
    torch.manual_seed(0)
    return DeepFM(NUM_IDS, 2, hidden_units=(5, 4), **deep)


def test_there_is_one_table_of_embeddings():
    shapes = {name: tuple(weight.shape) for name, weight in model().named_parameters() if "table" in name}
    assert shapes == {"linear.weights.table.weight": (9, 1), "embedding.table.weight": (9, 2)}


def test_dropout_applies_in_training_and_not_in_evaluation():
    deepfm = model(dropout=0.5)
    assert not torch.equal(deepfm.train()(IDS), deepfm(IDS))
    assert torch.equal(deepfm.eval()(IDS), deepfm(IDS))


def test_batch_norm_updates_statistics_in_training_and_uses_them_in_evaluation():
    deepfm = model(batch_norm=True)
    before = deepfm.eval()(IDS)
    deepfm.train()(IDS)
    assert deepfm.deep.layers[1].num_batches_tracked == 1
    assert not torch.equal(deepfm.eval()(IDS), before)

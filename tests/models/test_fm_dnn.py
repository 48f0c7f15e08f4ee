"""FM & DNN (Guo et al. 2017, sec. 3): an FM and a deep part with separate embeddings."""

import torch

from deepfm.models.fm_dnn import FMDNN


def fm_dnn_by_definition(one):
    logit = one.w_0
    for i in one.fields:
        logit = logit + one.w[i] * one.x[i]
        for j in range(i):
            for k in one.dims:
                logit = logit + one.v[i][k] * one.v[j][k] * one.x[i] * one.x[j]
    embeddings = [one.row_of("deep_embedding", i) for i in one.fields]
    return logit + one.deep([embeddings[i][k] * one.x[i] for i in one.fields for k in one.dims])


def test_logit_and_gradients_equal_an_fm_plus_an_mlp_over_separate_embeddings(equals_definition):
    equals_definition(lambda case: FMDNN(case.num_ids, case.k, **case.deep), fm_dnn_by_definition)


def test_the_two_embeddings_have_different_initial_weights():
    torch.manual_seed(0)
    net = FMDNN([3, 2], 2, hidden_units=(3,))
    assert not torch.equal(net.embedding.table.weight, net.deep_embedding.table.weight)

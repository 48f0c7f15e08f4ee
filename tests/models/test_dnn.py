"""DNN: only the deep part of DeepFM."""

from deepfm.models.dnn import DNN


def dnn_by_definition(one):
    return one.deep([one.v[i][k] * one.x[i] for i in one.fields for k in one.dims])


def test_logit_and_gradients_equal_an_mlp_over_the_embeddings(equals_definition):
    equals_definition(lambda case: DNN(case.num_ids, case.k, **case.deep), dnn_by_definition)

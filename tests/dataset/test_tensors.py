"""Model inputs (ids and x) from encoded rows."""

import numpy as np
import torch

from deepfm.dataset.columns import to_int32_matrix
from deepfm.dataset.tensors import to_model_inputs
from deepfm.fields import Field, FieldSet

IDS = np.array([2, 3, 0], np.int32)
VALUES = np.array([0.5, np.nan, -2.0], np.float32)
INDICATORS = np.array([0, 1, 1], np.int8)
ID, VALUE = Field(name="C", kind="category"), Field(name="V", kind="value")


def test_columns_of_any_type_become_one_int32_matrix():
    matrix = to_int32_matrix([INDICATORS, IDS, VALUES])
    assert (matrix.shape, matrix.dtype) == ((3, 3), np.int32)
    assert matrix[:, :2].tolist() == [[0, 2], [1, 3], [1, 0]]


def test_ids_have_an_x_of_1_and_present_values_have_one_id():
    ids, x = to_model_inputs(to_int32_matrix([IDS, VALUES]), FieldSet([ID, VALUE]))
    assert ids.tolist() == [[2, 1], [3, 0], [0, 1]]
    assert x.tolist() == [[1.0, 0.5], [1.0, 1.0], [1.0, -2.0]]
    assert (ids.dtype, x.dtype) == (torch.int64, torch.float32)


def test_a_missing_value_is_a_separate_feature():
    # The value 1 and a missing value have the same x but different ids.
    ids, x = to_model_inputs(to_int32_matrix([np.array([1.0, np.nan], np.float32)]), FieldSet([VALUE]))
    assert x.tolist() == [[1.0], [1.0]]
    assert ids.tolist() == [[1], [0]]


def test_without_values_there_is_no_x():
    ids, x = to_model_inputs(to_int32_matrix([IDS, IDS]), FieldSet([ID, ID]))
    assert ids.tolist() == [[2, 2], [3, 3], [0, 0]]
    assert x is None


def test_values_keep_all_bits_when_rows_are_shuffled_and_sliced():
    values = np.array([0.1, 1 / 3, 1e-45, -3.4e38, np.nan, 0.0], np.float32)
    matrix = to_int32_matrix([np.arange(6, dtype=np.int32), values])
    shuffled = np.random.default_rng(1).permutation(np.concatenate([matrix, matrix]))[3:9]
    ids, x = to_model_inputs(shuffled, FieldSet([ID, VALUE]))
    expected = [1.0 if np.isnan(values[row]) else values[row] for row in ids[:, 0].tolist()]
    assert x[:, 1].tolist() == [float(value) for value in expected]


def test_an_empty_matrix_gives_empty_inputs():
    ids, x = to_model_inputs(np.empty((0, 2), np.int32), FieldSet([ID, VALUE]))
    assert (tuple(ids.shape), tuple(x.shape)) == ((0, 2), (0, 2))


def test_the_values_of_a_list_have_an_x_of_1_over_their_number():
    slots = [np.array(ids, np.int32) for ids in ([5, 0, 7], [6, -1, -1], [2, -1, 3])]
    mean = Field(name="T", kind="list", max_values=3)
    ids, x = to_model_inputs(to_int32_matrix([IDS, *slots, VALUES]), FieldSet([ID, mean, VALUE]))
    assert ids.tolist() == [[2, 5, 6, 2, 1], [3, 0, -1, -1, 0], [0, 7, -1, 3, 1]]
    torch.testing.assert_close(x[:, 1:4], torch.tensor([[1 / 3] * 3, [1, 0, 0], [1 / 2, 0, 1 / 2]]))
    assert x[:, [0, 4]].tolist() == [[1.0, 0.5], [1.0, 1.0], [1.0, -2.0]]


def test_a_list_with_sum_pooling_needs_no_x():
    total = Field(name="T", kind="list", max_values=2, pooling="sum")
    ids, x = to_model_inputs(to_int32_matrix([IDS, np.array([-1, 4, -1], np.int32)]), FieldSet([total]))
    assert (ids.tolist(), x) == ([[2, -1], [3, 4], [0, -1]], None)

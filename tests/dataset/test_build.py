"""A build: where a dataset may be."""

import pytest

from deepfm.dataset.build import _claim
from deepfm.errors import UserError


@pytest.mark.parametrize("name", ["run#1", "run?1"])
def test_an_output_that_petastorm_could_not_read_is_refused_before_any_work(tmp_path, name):
    with pytest.raises(UserError, match="expected a path without # and"):
        _claim(f"file://{tmp_path}/{name}")
    assert list(tmp_path.iterdir()) == []

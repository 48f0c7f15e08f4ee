"""Output folder of a build."""

import pytest

from deepfm.dataset.build import _require_valid_url
from deepfm.errors import UserError


@pytest.mark.parametrize("name", ["run#1", "run?1"])
def test_an_output_that_petastorm_cannot_read_is_rejected_before_any_work(tmp_path, name):
    with pytest.raises(UserError, match="the path must not contain # or"):
        _require_valid_url(f"file://{tmp_path}/{name}")
    assert list(tmp_path.iterdir()) == []

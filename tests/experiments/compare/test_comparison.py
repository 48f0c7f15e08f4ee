"""Lock of a comparison."""

from types import SimpleNamespace

import pytest

from deepfm.errors import UserError
from deepfm.experiments.compare.comparison import locked_comparison


def test_a_work_dir_that_cannot_be_created_is_a_user_error(tmp_path):
    (tmp_path / "file").touch()
    store, comparison = SimpleNamespace(uri="sqlite:///x"), SimpleNamespace(key="k")
    locked = locked_comparison(store, "compare", comparison, f"file://{tmp_path}/file/runs")
    with pytest.raises(UserError, match="file/runs cannot be written"), locked:
        pass

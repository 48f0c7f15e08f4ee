"""Logged curves are read back as a table."""

import math

from deepfm.analysis.curves import training_curves


def test_a_row_is_an_epoch_of_a_run_and_missing_points_are_nan(store):
    runs = {}
    for name, epochs in (("second", 2), ("first", 1)):
        with store.run("curves", name=name) as run:
            for epoch in range(1, epochs + 1):
                run.log_epoch({"epoch": epoch, "valid_auc": 0.6 + epoch / 10})
            if name == "first":
                run.log_epoch({"epoch": 1, "gauc": 0.5})
        runs[name] = store.find_run(run.run_id)
    table = training_curves(store, runs, ["gauc", "valid_auc"])
    assert list(table.columns) == ["run", "epoch", "gauc", "valid_auc"]
    assert table["run"].tolist() == ["second", "second", "first"]
    assert table["epoch"].tolist() == [1, 2, 1]
    assert table["valid_auc"].tolist() == [0.7, 0.8, 0.7]
    assert [math.isnan(value) for value in table["gauc"]] == [True, True, False]

"""build_features.py: which of a log's days it looks at."""

import yaml

DATA = {
    "format": "delimited",
    "delimiter": ",",
    "header": True,
    "fields": [{"kind": "category", "names": ["C"]}],
}
SPLIT = ["--train-days=2026-01-01", "--valid-days=2026-01-02", "--test-days=2026-01-03"]


def test_days_that_are_not_asked_for_may_have_other_columns(run_job, write_log, tmp_path):
    rows = ["1,a", "0,b"]
    days = {f"2026-01-0{day}": ["label,C", *rows] for day in (1, 2, 3)}
    log = write_log(days | {"2025-01-01": ["C,clicked", "a,1"]})
    (tmp_path / "data.yaml").write_text(yaml.safe_dump(DATA))
    paths = ["--data", tmp_path / "data.yaml", "--input", log, "--output", tmp_path / "dataset"]
    assert run_job("build_features", *paths, *SPLIT).summary["rows_read"] == 6

"""build_features.py: the days it reads, damaged files, sampling and uneven splits."""

import gzip
import random

import yaml

DATA = {
    "format": "delimited",
    "delimiter": ",",
    "header": True,
    "fields": [{"kind": "category", "names": ["C"]}],
}
SPLIT = ["--train-days=2026-01-01", "--valid-days=2026-01-02", "--test-days=2026-01-03"]


def test_days_that_are_not_requested_may_have_other_columns(run_job, write_log, tmp_path):
    rows = ["1,a", "0,b"]
    days = {f"2026-01-0{day}": ["label,C", *rows] for day in (1, 2, 3)}
    log = write_log(days | {"2025-01-01": ["C,clicked", "a,1"]})
    (tmp_path / "data.yaml").write_text(yaml.safe_dump(DATA))
    paths = ["--data", tmp_path / "data.yaml", "--input", log, "--output", tmp_path / "dataset"]
    assert run_job("build_features", *paths, *SPLIT).summary["rows_read"] == 6


def test_a_truncated_compressed_file_is_a_user_error(run_job, tmp_path):
    """The header of the file is intact, so a Spark task detects it."""
    values = random.Random(1)
    days = [f"2026-01-0{day}" for day in (1, 2, 3)]
    for day in days:
        (tmp_path / "log" / f"ds={day}").mkdir(parents=True)
        lines = ["label,C", *(f"{row % 2},{values.getrandbits(64):x}" for row in range(20_000))]
        content = gzip.compress("\n".join(lines).encode())
        cut = len(content) // 2 if day == days[1] else len(content)
        (tmp_path / "log" / f"ds={day}" / "a.csv.gz").write_bytes(content[:cut])
    (tmp_path / "data.yaml").write_text(yaml.safe_dump(DATA))
    paths = ["--data", tmp_path / "data.yaml", "--input", tmp_path / "log", "--output", tmp_path / "dataset"]
    message = run_job("build_features", *paths, *SPLIT).mistake
    assert "ds=2026-01-02/a.csv.gz: corrupt or truncated compressed file" in message
    assert not (tmp_path / "dataset").exists()


def test_sampling_of_nearly_equal_rows_is_refused(run_job, write_log, tmp_path):
    """Equal rows are kept or dropped together, so the sampled share would not be the configured one."""
    rows = [f"{int(row % 10 == 0)},a" for row in range(1000)]
    log = write_log({f"2026-01-0{day}": ["label,C", *rows] for day in (1, 2, 3)})
    (tmp_path / "data.yaml").write_text(yaml.safe_dump({**DATA, "keep_negatives": 0.5}))
    paths = ["--data", tmp_path / "data.yaml", "--input", log, "--output", tmp_path / "dataset"]
    message = run_job("build_features", *paths, *SPLIT).mistake
    assert "expected keep_negatives 0.5 to keep that share of the training rows without a click" in message
    assert not (tmp_path / "dataset").exists()


def test_a_hash_split_made_uneven_by_equal_rows_logs_a_warning(run_job, tmp_path, caplog):
    rows = [f"{row % 2},v{row % 10}" for row in range(2000)]
    (tmp_path / "log.csv").write_text("\n".join(["label,C", *rows]))
    (tmp_path / "data.yaml").write_text(yaml.safe_dump({**DATA, "hash_split": {"valid": 0.3, "test": 0.3}}))
    paths = ["--data", tmp_path / "data.yaml", "--input", tmp_path / "log.csv"]
    job = run_job("build_features", *paths, "--output", tmp_path / "dataset")
    shares = {part: job.summary[f"rows_{part}"] / 2000 for part in ("train", "valid", "test")}
    warning = "expected 0.3 of the rows in {}, found {:.3f}: many rows are equal, and equal rows are in the "
    uneven = [part for part in ("valid", "test") if abs(shares[part] - 0.3) > 0.09]
    assert uneven, "choose other rows"
    for part in uneven:
        assert warning.format(part, shares[part]) in caplog.text

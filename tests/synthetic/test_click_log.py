"""The synthetic click log: Criteo's layout, drawn from known click probabilities."""

import itertools
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from sklearn.metrics import log_loss, roc_auc_score

from deepfm.errors import UserError
from deepfm.synthetic import click_log as synthetic
from deepfm.synthetic.click_log import BayesScore, generate_day, write_log
from deepfm.synthetic.codes import CATEGORIES, COUNTS, MISSING, draw_codes
from deepfm.synthetic.makes import MAKES, TruthOptions
from deepfm.synthetic.truth import PAIRS, TRIPLE, Truth

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def truth():
    return Truth.from_seed(7)


@pytest.fixture(scope="module")
def day(truth):
    """(raw table, probabilities) of 100,000 impressions."""
    return generate_day(truth, day_index=0, num_rows=100_000)


@pytest.fixture
def small_files(monkeypatch):
    """Use chunks of 100 rows and two chunks per part, so that a few hundred rows give several files."""
    monkeypatch.setattr(synthetic, "ROWS_PER_CHUNK", 100)
    monkeypatch.setattr(synthetic, "CHUNKS_PER_PART", 2)


def read_files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*.tsv"))}


def split_columns(file: bytes) -> list[list[str]]:
    return [line.split("\t") for line in file.decode().splitlines()]


def run(*flags) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "deepfm.synthetic", *map(str, flags)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)


# --- the layout


def test_table_has_label_then_13_counts_then_26_categories(day):
    table, probabilities = day
    names = ["label"] + [f"I{i}" for i in range(1, 14)] + [f"C{i}" for i in range(1, 27)]
    assert table.schema == pa.schema(
        [(name, pa.string() if name.startswith("C") else pa.int64()) for name in names]
    )
    assert table.num_rows == len(probabilities) == 100_000


def test_file_is_tab_separated_without_header_or_quotes_and_empty_where_missing(truth, tmp_path, small_files):
    write_log(truth, tmp_path / "log", num_days=1, rows_per_day=150)
    (file,) = read_files(tmp_path / "log").values()
    table, _ = generate_day(truth, day_index=0, num_rows=150)
    expected = [["" if value is None else str(value) for value in row.values()] for row in table.to_pylist()]
    assert split_columns(file) == expected
    assert "" in itertools.chain(*expected)
    assert b'"' not in file


def test_categories_are_eight_hex_digits(day):
    table, _ = day
    for name in CATEGORIES:
        assert all(
            len(value) == 8 and int(value, 16) >= 0 for value in table[name].unique().drop_null().to_pylist()
        )


def test_days_are_split_into_numbered_parts(truth, tmp_path, small_files):
    write_log(truth, tmp_path / "log", num_days=2, rows_per_day=450)
    files = read_files(tmp_path / "log")
    assert {name: len(split_columns(file)) for name, file in files.items()} == {
        f"ds=2026-01-0{day}/part-0000{part}.tsv": rows
        for day in (1, 2)
        for part, rows in ((0, 200), (1, 200), (2, 50))
    }


# --- determinism


def test_the_same_seed_writes_the_same_bytes(tmp_path, small_files):
    for name in ("one", "two"):
        write_log(Truth.from_seed(3), tmp_path / name, num_days=2, rows_per_day=250)
    assert read_files(tmp_path / "one") == read_files(tmp_path / "two")


def test_different_seeds_give_different_truths():
    one, two = Truth.from_seed(3), Truth.from_seed(4)
    assert not np.array_equal(one.latent["C5"], two.latent["C5"])
    assert one.bias != two.bias


def test_a_day_does_not_depend_on_how_many_days_are_written(truth, tmp_path, small_files):
    write_log(truth, tmp_path / "short", num_days=2, rows_per_day=250)
    write_log(truth, tmp_path / "long", num_days=3, rows_per_day=250)
    short, long = read_files(tmp_path / "short"), read_files(tmp_path / "long")
    assert {name: long[name] for name in short} == short
    assert len(set(long.values())) == len(long)  # no two files are equal


def test_drift_brings_new_values_to_wide_categories_only():
    drifting = Truth.from_seed(7, TruthOptions(drift=0.1))
    codes = draw_codes(np.random.default_rng(0), 20_000)
    assert all(np.array_equal(codes[name], drifting.with_new_values(codes, 0)[name]) for name in CATEGORIES)
    on_day_3 = drifting.with_new_values(codes, 3)
    values, first = np.unique(codes["C3"], return_index=True)
    replaced = on_day_3["C3"][first] != values
    assert 0.28 < replaced.mean() < 0.32  # three days of a tenth each
    assert on_day_3["C3"][first][replaced].min() >= CATEGORIES["C3"].cardinality
    assert np.array_equal(codes["C3"] == MISSING, on_day_3["C3"] == MISSING)
    assert np.array_equal(codes["C5"], on_day_3["C5"])


def test_drift_rotates_the_first_order_weights_a_little_every_day():
    codes = draw_codes(np.random.default_rng(0), 20_000)
    steady, drifting = Truth.from_seed(7), Truth.from_seed(7, TruthOptions(drift=0.1))
    assert np.array_equal(steady.first_order(codes, 0), steady.first_order(codes, 5))
    daily = [drifting.first_order(codes, day) for day in (0, 1, 5)]
    assert 1 > np.corrcoef(daily[0], daily[1])[0, 1] > np.corrcoef(daily[0], daily[2])[0, 1] > 0.5


# --- distributions of the values


def test_ctr_is_about_a_quarter_for_every_seed():
    for seed in (0, 1, 2):
        table, probabilities = generate_day(Truth.from_seed(seed), 0, 20_000)
        assert 0.23 < probabilities.mean() < 0.27
        assert 0.23 < np.mean(table["label"].to_numpy()) < 0.27


def test_missing_shares_match_the_declared_ones(day):
    table, _ = day
    for name, field in (COUNTS | CATEGORIES).items():
        assert table[name].null_count / table.num_rows == pytest.approx(field.missing, abs=0.01)


def test_counts_are_heavy_tailed_and_only_i2_is_negative(day):
    table, _ = day
    for name, count in COUNTS.items():
        values = table[name].drop_null().to_numpy()
        assert values.min() == count.minimum
        assert values.max() > 10 * np.quantile(values, 0.75)
    assert COUNTS["I2"].minimum == -2


def test_category_frequencies_follow_zipf():
    """P(rank r) = (edge(r + 1) - edge(r)) / (edge(N + 1) - edge(1)) with edge(x) = x ** (1 - exponent)."""
    codes = draw_codes(np.random.default_rng(0), 100_000)
    for name in ("C1", "C5", "C12", "C20"):
        category = CATEGORIES[name]
        edges = np.arange(1.0, category.cardinality + 2) ** (1 - category.exponent)
        expected = np.diff(edges) / (edges[-1] - edges[0])
        present = codes[name][codes[name] != MISSING]
        frequencies = np.bincount(present, minlength=category.cardinality) / len(present)
        assert len(frequencies) == category.cardinality
        assert frequencies[:4] == pytest.approx(expected[:4], abs=0.01)


def test_category_values_match_the_log(truth):
    codes = draw_codes(np.random.default_rng(0), 1000)
    table, values = synthetic.raw_table(truth, codes, np.zeros(1000)), synthetic.category_values(truth, "C14")
    assert len(values) == CATEGORIES["C14"].cardinality
    assert table["C14"].to_pylist() == [values[code] for code in codes["C14"]]


def test_two_values_of_a_field_never_share_their_digits(truth):
    codes = draw_codes(np.random.default_rng(0), 50_000)
    table = synthetic.raw_table(truth, codes, np.zeros(50_000))
    for name in ("C3", "C12", "C20"):
        present = codes[name][codes[name] != MISSING]
        assert len(table[name].unique().drop_null()) == len(np.unique(present))


# --- the planted truth


def triple_combinations() -> dict[str, np.ndarray]:
    """Every combination of the triple's values once: equally frequent, as in the log."""
    grid = np.meshgrid(*(np.arange(CATEGORIES[name].cardinality) for name in TRIPLE), indexing="ij")
    return dict(zip(TRIPLE, grid, strict=True))


def test_third_order_term_has_no_effect_of_lower_order(truth):
    effect = truth.third_order(triple_combinations())
    for axis in range(3):
        assert np.allclose(effect.mean(axis=axis), 0.0)  # no two of the fields are informative
    assert np.all(np.abs(effect) == MAKES["deep"].third_order)
    assert all(CATEGORIES[name].exponent == 0 and CATEGORIES[name].missing == 0 for name in TRIPLE)


def test_clicks_follow_the_product_of_the_three_signs(truth):
    codes = draw_codes(np.random.default_rng(0), 50_000)
    clicked = np.random.default_rng(1).random(50_000) < synthetic.sigmoid(truth.logit(codes))
    product = truth.third_order(codes)
    assert clicked[product > 0].mean() > clicked[product < 0].mean() + 0.15


def test_pairs_have_no_effect_of_first_order(truth):
    """<v, w> averaged over the other field's values w, by their frequency, is <v, 0> = 0 for every v."""
    for pair in PAIRS:
        for name in pair:
            category = CATEGORIES[name]
            edges = np.arange(1.0, category.cardinality + 2) ** (1 - category.exponent)
            frequency = np.diff(edges) / (edges[-1] - edges[0])
            assert frequency @ truth.latent[name][:-1] == pytest.approx(0.0, abs=1e-9)


def test_pairwise_term_is_the_sum_of_inner_products(truth):
    codes = {name: np.array([2, MISSING]) for pair in PAIRS for name in pair}
    latent = {name: table[2] for name, table in truth.latent.items()}
    by_hand = truth.pairwise_scale * sum(float(latent[a] @ latent[b]) for a, b in PAIRS)
    assert truth.pairwise(codes) == pytest.approx([by_hand, 0.0])


def test_logit_is_the_sum_of_its_four_parts(truth):
    codes = draw_codes(np.random.default_rng(0), 100)
    parts = truth.bias + truth.first_order(codes) + truth.pairwise(codes) + truth.third_order(codes)
    assert truth.logit(codes) == pytest.approx(parts)


def test_each_order_of_effects_raises_the_best_possible_auc_clearly():
    for seed in (0, 1):
        truth = Truth.from_seed(seed)
        codes = draw_codes(np.random.default_rng(0), 50_000)
        clicked = np.random.default_rng(1).random(50_000) < synthetic.sigmoid(truth.logit(codes))
        first, second = truth.first_order(codes), truth.pairwise(codes)
        lr, fm, bayes = (roc_auc_score(clicked, x) for x in (first, first + second, truth.logit(codes)))
        assert lr + 0.05 < fm < bayes - 0.05
        assert 0.78 < bayes < 0.82


# --- Bayes AUC and logloss


def test_bayes_metrics_equal_those_of_scikit_learn_on_the_true_probabilities(truth, tmp_path, small_files):
    summary = write_log(truth, tmp_path / "log", num_days=2, rows_per_day=1_000)
    days = [generate_day(truth, day_index, 1_000) for day_index in (0, 1)]
    labels = [table["label"].to_numpy() for table, _ in days]
    probabilities = [p for _, p in days]
    for index, metrics in enumerate(summary["by_day"].values()):
        assert metrics["rows"] == 1_000
        assert metrics["ctr"] == pytest.approx(labels[index].mean())
        assert metrics["bayes_auc"] == pytest.approx(
            roc_auc_score(labels[index], probabilities[index]), abs=1e-5
        )
        assert metrics["bayes_logloss"] == pytest.approx(log_loss(labels[index], probabilities[index]))
    all_rows = np.concatenate(labels), np.concatenate(probabilities)
    assert summary["rows"] == 2_000
    assert summary["bayes_auc"] == pytest.approx(roc_auc_score(*all_rows), abs=1e-5)
    assert summary["bayes_logloss"] == pytest.approx(log_loss(*all_rows))
    constant = np.full(2_000, summary["ctr"])
    assert summary["always_ctr_logloss"] == pytest.approx(log_loss(all_rows[0], constant))


def test_equal_and_extreme_logits_follow_the_definition_of_auc():
    score = BayesScore()
    score.update(np.array([-99.0, 0.0, 0.0, 99.0]), np.array([0, 0, 1, 1]))
    assert score.compute()["bayes_auc"] == (1 + 1 + 1 + 0.5) / 4
    assert score.compute()["bayes_logloss"] == pytest.approx(2 * np.log(2) / 4)


def test_a_day_with_only_one_label_has_no_auc():
    score = BayesScore()
    score.update(np.array([0.0]), np.array([1]))
    assert score.compute()["bayes_auc"] is None


# --- the output folder and the command


def test_a_failed_run_leaves_no_files(truth, tmp_path, monkeypatch, small_files):
    def fail_on_second_day(truth, day_index, num_rows):
        if day_index == 1:
            assert (tmp_path / "_writing/ds=2026-01-01/part-00000.tsv").exists()  # the first day is complete
            assert not list(tmp_path.glob("ds=*"))  # but not published yet
            raise KeyboardInterrupt
        return generate_chunks(truth, day_index, num_rows)

    generate_chunks = synthetic.generate_chunks
    monkeypatch.setattr(synthetic, "generate_chunks", fail_on_second_day)
    with pytest.raises(KeyboardInterrupt):
        write_log(truth, tmp_path, num_days=2, rows_per_day=100)
    assert list(tmp_path.iterdir()) == []


def test_an_output_folder_that_is_not_empty_is_rejected_and_unchanged(truth, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match="mine.txt"):
        write_log(truth, tmp_path, num_days=1, rows_per_day=10)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_command_ends_with_one_line_of_json_that_is_also_written_to_the_folder(tmp_path):
    result = run(
        "--days", 2, "--rows-per-day", 50, "--seed", 5, "--first-day", "2025-12-31", "--output", tmp_path
    )
    assert result.returncode == 0
    summary = json.loads(result.stdout.splitlines()[-1])
    assert summary == json.loads((tmp_path / "_truth.json").read_text())
    assert (summary["rows"], summary["days"], summary["output"]) == (100, 2, str(tmp_path))
    assert list(summary["by_day"]) == ["2025-12-31", "2026-01-01"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "_truth.json",
        "ds=2025-12-31",
        "ds=2026-01-01",
    ]


def test_a_user_error_is_one_line_and_exit_status_2(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    for flags in (
        ["--rows-per-day", 10, "--output", tmp_path],
        ["--rows-per-day", 0, "--output", tmp_path / "new"],
    ):
        result = run(*flags)
        assert result.returncode == 2
        assert result.stdout == ""
        assert len(result.stderr.splitlines()) == 1

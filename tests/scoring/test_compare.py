"""Candidate and champion are compared on the raw rows held out from the candidate's dataset."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

from deepfm.registry import promotion

DAYS = {"train": ("2026-01-01",) * 2, "valid": ("2026-01-02",) * 2, "test": ("2026-01-03",) * 2}
#: Value `a` is clicked in three of four impressions, `b` in one of four: logits ±1.0986 are correct.
LINES = ["1\t0\ta"] * 3 + ["0\t0\ta"] + ["1\t1\tb"] + ["0\t1\tb"] * 3
CORRECT = {"a": 1.0986, "b": -1.0986}


@pytest.fixture
def log(write_log):
    return write_log({"2026-01-01": ["0\t0\ta"] * 8, "2026-01-03": LINES * 5})


@pytest.fixture
def candidate(request, log, save_model, register):
    """Register a version with logits `bias` + those of its values, and return the version."""

    def new(c, bias=0.0, **fields):
        folder = f"model-{len(list(log.parent.glob('model-*')))}"
        origin = {"log_url": f"file://{log}", "days": DAYS}
        return register(save_model(folder, bias=bias, c=c, **fields, **origin), request.node.name)

    return new


@pytest.fixture(autouse=True)
def settle_immediately(monkeypatch):
    """Do not wait for competing claims."""
    monkeypatch.setattr(promotion, "_SETTLE_S", 0.0)


def aliases(store, request):
    versions = store.client.get_registered_model(request.node.name).aliases
    return {name: str(version) for name, version in versions.items()}


@pytest.fixture
def promote(run_job, request):
    return lambda *flags: run_job("promote", "--name", request.node.name, *flags)


def test_the_first_candidate_is_promoted_with_its_metrics(candidate, promote):
    candidate(CORRECT)
    summary = promote().summary
    assert (summary["promoted"], summary["version"], summary["previous_version"]) == (True, "1", None)
    # H(1/4) nats; of the 4 x 4 pairs 9 are in order, 6 are ties, 1 is not: AUC 0.75.
    assert summary["reasons"] == [
        "there is no champion yet",
        "logloss 0.56234, AUC 0.75000, calibration 1.000",
    ]


def test_an_equal_candidate_is_promoted(candidate, promote, store, request):
    candidate(CORRECT)
    promote()
    candidate(CORRECT)
    summary = promote().summary
    assert (summary["promoted"], summary["version"], summary["previous_version"]) == (True, "2", "1")
    assert int(store.resolve(f"models:/{request.node.name}@champion").version) == 2


@pytest.mark.parametrize(
    ("c", "bias", "failed"),
    [
        ({"a": 3.0, "b": -3.0}, 0.0, {"logloss", "expected"}),
        ({"a": 0.0, "b": 0.0}, 0.0, {"logloss", "AUC"}),
        ({"a": 1.0986, "b": -1.0986}, 0.9, {"logloss", "calibration", "expected"}),
    ],
)
def test_a_worse_candidate_is_not_promoted(candidate, promote, store, request, c, bias, failed):
    candidate(CORRECT)
    promote()
    candidate(c, bias)
    summary = promote().summary
    assert (summary["promoted"], summary["version"], summary["previous_version"]) == (False, "2", "1")
    reasons = [
        reason.removeprefix("FAILED: ").split()[0] for reason in summary["reasons"] if "FAILED" in reason
    ]
    assert set(reasons) == failed
    assert int(store.resolve(f"models:/{request.node.name}@champion").version) == 1


def test_a_champion_is_not_compared_with_itself(candidate, promote):
    candidate(CORRECT)
    promote()
    summary = promote().summary
    assert (summary["promoted"], summary["reasons"]) == (False, ["version 1 is already champion"])


def test_an_older_version_can_be_the_candidate(candidate, promote):
    candidate(CORRECT)
    candidate(CORRECT)
    assert promote("--version", "1").summary["version"] == "1"


def test_history_and_rollback_are_flags(candidate, promote):
    candidate(CORRECT)
    candidate(CORRECT)
    promote("--version", "1")
    promote("--version", "2")
    assert promote("--rollback").summary["version"] == "1"
    history = promote("--history")
    moves = [(move["kind"], move["version"]) for move in history.summary["history"]]
    assert moves == [("promote", "1"), ("promote", "2"), ("rollback", "1")]
    assert history.summary["version"] == "1"
    assert [line.split()[1] for line in history.stderr.splitlines()] == ["promote", "promote", "rollback"]


def test_contradicting_flags_are_refused(promote):
    assert "exclude each other" in promote("--rollback", "--history").mistake


def test_a_champion_may_have_fields_that_the_candidate_lacks(candidate, promote):
    candidate(CORRECT)
    promote()
    candidate(CORRECT, with_i=False)
    summary = promote().summary
    assert summary["promoted"]
    assert summary["reasons"][0].startswith("ok: logloss 0.56234, the champion's 0.56234")


def test_a_champion_of_another_log_is_reported(candidate, promote, store, request):
    candidate(CORRECT)
    promote()
    candidate(CORRECT, with_i=False, columns=("label", "J", "C"))
    message = promote().mistake
    assert "version 1, the champion, reads columns that version 2 does not" in message
    assert "expected columns I" in message
    assert "train each with its own --name" in message
    assert aliases(store, request) == {"candidate": "2", "champion": "1"}


def test_a_missing_log_is_reported(candidate, promote, log, store, request):
    candidate(CORRECT)
    shutil.rmtree(log)
    assert "expected a click log, but the path does not exist" in promote().mistake
    assert aliases(store, request) == {"candidate": "1"}


def test_held_out_rows_that_no_longer_fit_are_reported(candidate, promote, log, store, request):
    candidate(CORRECT)
    (log / "ds=2026-01-03" / "part-00000.tsv").write_text("now\tsomething\telse\n")
    assert "expected held-out rows of version 1 that fit it and the champion, found none" in promote().mistake
    assert aliases(store, request) == {"candidate": "1"}


def test_a_champion_may_have_crossed_fields_that_the_candidate_lacks(candidate, promote):
    candidate(CORRECT, crossed=True)
    promote()
    candidate(CORRECT)
    assert promote().summary["promoted"]


def test_the_verdict_of_the_gate_is_stored_with_the_run_and_the_version(candidate, promote, store, request):
    candidate(CORRECT)
    promote()
    candidate({"a": 3.0, "b": -3.0})
    reasons = promote().summary["reasons"]
    version = store.resolve(f"models:/{request.node.name}/2")
    assert version.tags["gate"] == "refused"
    assert version.tags["gate.reasons"] == "; ".join(reasons)
    path = store.client.download_artifacts(version.run_id, "gate/verdict.json")
    verdict = json.loads(Path(path).read_text())
    assert verdict["reasons"] == reasons
    assert verdict["champion"]["logloss"] == pytest.approx(0.56234, abs=1e-5)
    assert aliases(store, request) == {"candidate": "2", "champion": "1"}


def test_slices_that_the_profile_names_are_compared(candidate, promote, profile_path, tmp_path):
    profile = yaml.safe_load(profile_path.read_text())
    profile["promotion"] |= {"slices": ["C"], "min_slice_rows": 10}
    path = tmp_path / "profile.yaml"
    path.write_text(yaml.safe_dump(profile))
    candidate(CORRECT)
    promote("--profile", path)
    candidate({"a": 2.5, "b": -1.0986})
    reasons = promote("--profile", path).summary["reasons"]
    assert any(reason.startswith("FAILED: C: worst of 2 slices is 'a'") for reason in reasons)
    profile["promotion"]["slices"] = ["I"]
    path.write_text(yaml.safe_dump(profile))
    assert "promotion.slices I: expected a field of kind category" in promote("--profile", path).mistake

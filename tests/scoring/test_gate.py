"""Candidate against champion, on the raw rows that the candidate's dataset held out."""

import shutil

import pytest

DAYS = {"train": ("2026-01-01",) * 2, "valid": ("2026-01-02",) * 2, "test": ("2026-01-03",) * 2}
#: A value `a` is clicked three times in four, a `b` once in four: the logits ±1.0986 are right.
LINES = ["1\t0\ta"] * 3 + ["0\t0\ta"] + ["1\t1\tb"] + ["0\t1\tb"] * 3
RIGHT = {"a": 1.0986, "b": -1.0986}


@pytest.fixture
def log(write_log):
    return write_log({"2026-01-01": ["0\t0\ta"] * 8, "2026-01-03": LINES * 5})


@pytest.fixture
def candidate(request, log, save_model, register):
    """Register a version whose logits are `bias` + those of its values -> the version."""

    def new(c, bias=0.0, **fields):
        folder = f"model-{len(list(log.parent.glob('model-*')))}"
        origin = {"log_url": f"file://{log}", "days": DAYS}
        return register(save_model(folder, bias=bias, c=c, **fields, **origin), request.node.name)

    return new


@pytest.fixture
def promote(run_job, request):
    return lambda *flags: run_job("promote", "--name", request.node.name, *flags)


def test_first_candidate_is_promoted_with_its_figures(candidate, promote):
    candidate(RIGHT)
    summary = promote().summary
    assert (summary["promoted"], summary["version"], summary["previous_version"]) == (True, "1", None)
    # H(1/4) nats; of the 4 x 4 pairs 9 are in order, 6 are ties, 1 is not: AUC 0.75.
    assert summary["reasons"] == [
        "there is no champion yet",
        "logloss 0.56234, AUC 0.75000, calibration 1.000",
    ]


def test_equal_candidate_is_promoted(candidate, promote, store, request):
    candidate(RIGHT)
    promote()
    candidate(RIGHT)
    summary = promote().summary
    assert (summary["promoted"], summary["version"], summary["previous_version"]) == (True, "2", "1")
    assert int(store.resolve(f"models:/{request.node.name}@champion").version) == 2


@pytest.mark.parametrize(
    ("c", "bias", "failed"),
    [
        ({"a": 3.0, "b": -3.0}, 0.0, {"logloss"}),
        ({"a": 0.0, "b": 0.0}, 0.0, {"logloss", "AUC"}),
        ({"a": 1.0986, "b": -1.0986}, 0.9, {"logloss", "calibration"}),
    ],
)
def test_worse_candidate_is_not_promoted(candidate, promote, store, request, c, bias, failed):
    candidate(RIGHT)
    promote()
    candidate(c, bias)
    summary = promote().summary
    assert (summary["promoted"], summary["version"], summary["previous_version"]) == (False, "2", "1")
    reasons = [
        reason.removeprefix("FAILED: ").split()[0] for reason in summary["reasons"] if "FAILED" in reason
    ]
    assert set(reasons) == failed
    assert int(store.resolve(f"models:/{request.node.name}@champion").version) == 1


def test_a_champion_is_not_measured_against_itself(candidate, promote):
    candidate(RIGHT)
    promote()
    summary = promote().summary
    assert (summary["promoted"], summary["reasons"]) == (False, ["version 1 is champion already"])


def test_an_older_version_can_be_the_candidate(candidate, promote):
    candidate(RIGHT)
    candidate(RIGHT)
    assert promote("--version", "1").summary["version"] == "1"


def test_history_and_rollback_are_flags(candidate, promote):
    candidate(RIGHT)
    candidate(RIGHT)
    promote("--version", "1")
    promote("--version", "2")
    assert promote("--rollback").summary["version"] == "1"
    told = promote("--history")
    moves = [(move["kind"], move["version"]) for move in told.summary["history"]]
    assert moves == [("promote", "1"), ("promote", "2"), ("rollback", "1")]
    assert told.summary["version"] == "1"
    assert [line.split()[1] for line in told.stderr.splitlines()] == ["promote", "promote", "rollback"]


def test_two_wishes_at_once_are_refused(promote):
    assert "exclude each other" in promote("--rollback", "--history").mistake


def test_a_champion_may_have_fields_that_the_candidate_does_without(candidate, promote):
    candidate(RIGHT)
    promote()
    candidate(RIGHT, with_i=False)
    summary = promote().summary
    assert summary["promoted"]
    assert summary["reasons"][0].startswith("ok: logloss 0.56234, the champion's 0.56234")


def test_a_log_that_is_gone_is_told(candidate, promote, log, store, request):
    candidate(RIGHT)
    shutil.rmtree(log)
    assert "expected a click log, found nothing there" in promote().mistake
    assert store.client.get_registered_model(request.node.name).aliases == {}


def test_held_out_rows_that_no_longer_fit_are_told(candidate, promote, log, store, request):
    candidate(RIGHT)
    (log / "ds=2026-01-03" / "part-00000.tsv").write_text("now\tsomething\telse\n")
    assert "expected the held-out rows of version 1, found none" in promote().mistake
    assert store.client.get_registered_model(request.node.name).aliases == {}


def test_a_champion_may_have_crossed_fields_that_the_candidate_has_not(candidate, promote):
    candidate(RIGHT, crossed=True)
    promote()
    candidate(RIGHT)
    assert promote().summary["promoted"]

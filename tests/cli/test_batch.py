"""One bad item of a batch does not keep the others from being done."""

import json

import click
import pytest
from click.testing import CliRunner
from pyspark.errors import PySparkException

from deepfm.cli.batch import do_each
from deepfm.cli.job import JobCommand, job
from deepfm.errors import IncompleteError, JobFailedError, UserError


def work_with(failures):
    def work(item):
        if item in failures:
            raise failures[item]
        return item.upper()

    return work


def test_the_other_items_are_done(capsys):
    failure = UserError("b: there is no log")
    results, failures = do_each(["a", "b", "c"], work_with({"b": failure}))
    assert (results, failures) == ({"a": "A", "c": "C"}, {"b": failure})
    assert "warning: b failed: b: there is no log" in capsys.readouterr().err


def test_the_user_error_of_a_spark_task_is_one_of_an_item():
    text = "Traceback …\ndeepfm.errors.UserError: the file is broken\n  at …"
    _, failures = do_each(["a", "b"], work_with({"a": PySparkException(text)}))
    assert str(failures["a"]) == "the file is broken"


@pytest.mark.parametrize("error", [ValueError("a bug"), PySparkException("the context is stopped")])
def test_an_unexpected_error_ends_the_batch_and_what_is_done_is_returned(error, caplog):
    results, failures = do_each(["a", "b", "c"], work_with({"b": error}))
    assert results == {"a": "A"} and set(failures) == {"b", "c"}
    assert "stopped by an internal error" in str(failures["c"]) and isinstance(failures["c"], JobFailedError)
    assert "Traceback" in caplog.text


def test_the_error_of_the_only_item_is_raised_if_it_is_not_a_batch():
    error = UserError("there is no log")
    with pytest.raises(UserError):
        do_each(["a"], work_with({"a": error}), is_batch=False)
    assert do_each(["a"], work_with({"a": error})) == ({}, {"a": error})


def test_a_batch_of_which_nothing_is_done_does_not_say_so():
    assert str(IncompleteError("days", 1, {"a": UserError("x")})) == "1 of 1 days failed: a: x"


@pytest.mark.parametrize(
    ("error", "status"), [(UserError("there is no log"), 2), (JobFailedError("it is in use"), 1)]
)
def test_a_job_prints_its_summary_and_the_failures(error, status):
    def batch() -> dict:
        results, failures = do_each(["a", "b"], work_with({"a": error}))
        raise IncompleteError("letters", 2, failures).with_summary({"done": list(results)})

    done = CliRunner().invoke(click.command(cls=JobCommand, help="A job.")(job(batch)), [])
    assert done.exit_code == status
    summary = json.loads(done.stdout)
    assert (summary["done"], summary["failed"]) == (["b"], {"a": str(error)})
    assert done.stderr.splitlines()[-1] == (f"error: 1 of 2 letters failed, the others are done: a: {error}")

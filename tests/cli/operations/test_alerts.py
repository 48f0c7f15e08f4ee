"""Jobs report their outcome to a webhook and a Prometheus file."""

import click
import pytest
import yaml
from click.testing import CliRunner

from deepfm.cli.job import JobCommand, job
from deepfm.cli.options.common import profile_option
from deepfm.errors import UserError


@pytest.fixture
def write_profile(profile_path, tmp_path):
    """Function: write the profile of the tests with a section `alerts` -> its path."""

    def write(**alerts):
        profile = yaml.safe_load(profile_path.read_text()) | {"alerts": alerts}
        (tmp_path / "profile.yaml").write_text(yaml.safe_dump(profile))
        return tmp_path / "profile.yaml"

    return write


def refuse():
    return {"version": "2", "previous_version": "1", "promoted": False, "reasons": ["FAILED: AUC"]}


def fail():
    raise UserError("no such model")


def crash():
    raise ValueError("password")


def run_promote(outcome, profile, *flags, **environment):
    """Run a job named promote that ends with `outcome`."""

    def promote(profile_path, name, history) -> dict:
        return outcome()

    command = click.option("--name")(click.option("--history", is_flag=True)(profile_option(job(promote))))
    command = click.command(cls=JobCommand, help="A job.")(command)
    return CliRunner().invoke(command, ["--name", "ctr", "--profile", str(profile), *flags], env=environment)


def test_a_refused_candidate_is_posted_and_written(webhook, write_profile, tmp_path):
    profile = write_profile(webhook=webhook.url, prometheus_dir=str(tmp_path / "metrics"))
    done = run_promote(refuse, profile)
    assert (done.exit_code, len(done.stdout.splitlines())) == (0, 1)
    (posted,) = webhook.posted
    assert (posted["kind"], posted["name"], posted["version"]) == ("candidate_refused", "ctr", "2")
    metrics = (tmp_path / "metrics" / "deepfm_promote_ctr.prom").read_text()
    assert 'deepfm_candidate_promoted{job="promote",name="ctr"} 0\n' in metrics


def test_an_error_of_the_user_is_posted_with_its_text(webhook, write_profile):
    assert run_promote(fail, write_profile(webhook=webhook.url)).exit_code == 2
    (posted,) = webhook.posted
    assert (posted["kind"], posted["message"], posted["exit_status"]) == ("job_failed", "no such model", 2)


def test_the_text_of_an_unexpected_error_is_not_posted(webhook, write_profile):
    done = run_promote(crash, write_profile(webhook=webhook.url))
    assert done.exit_code == 1 and isinstance(done.exception, ValueError)
    assert webhook.posted[0]["message"] == "internal error, ValueError: see the log"


def test_the_webhook_of_the_environment_counts_even_if_the_profile_is_invalid(webhook, tmp_path):
    done = run_promote(fail, tmp_path / "none.yaml", DEEPFM_ALERT_WEBHOOK=webhook.url)
    assert done.exit_code == 2
    assert webhook.posted[0]["kind"] == "job_failed"


def test_the_webhook_of_the_environment_precedes_the_profile(webhook, write_profile):
    profile = write_profile(webhook="http://127.0.0.1:1/absent")
    run_promote(fail, profile, DEEPFM_ALERT_WEBHOOK=webhook.url)
    assert len(webhook.posted) == 1


@pytest.mark.parametrize(("outcome", "status"), [(refuse, 0), (fail, 2)])
def test_a_report_that_fails_does_not_change_the_exit_status(
    write_profile, tmp_path, caplog, outcome, status
):
    (tmp_path / "file").write_text("")
    done = run_promote(outcome, write_profile(prometheus_dir=str(tmp_path / "file" / "metrics")))
    assert done.exit_code == status
    assert "the outcome of this job is not reported: " in caplog.text and "cannot be written" in caplog.text


def test_an_invalid_url_of_a_webhook_is_not_shown(tmp_path, caplog, write_profile):
    done = run_promote(refuse, write_profile(), DEEPFM_ALERT_WEBHOOK="host/SECRET")
    assert done.exit_code == 0
    assert "DEEPFM_ALERT_WEBHOOK: 1 error: webhook: expected http(s)://HOST/" in caplog.text
    assert "SECRET" not in caplog.text


def test_a_call_by_hand_is_not_reported(webhook, write_profile):
    run_promote(fail, write_profile(webhook=webhook.url), "--history")
    assert webhook.posted == []

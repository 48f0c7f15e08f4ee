"""Compare candidate and champion on the candidate's held-out days; promote it if it is good enough.

Days that one of the two was trained or validated on are left out.

Example:

    spark-submit jobs/promote.py --name ctr_deepfm
    python jobs/promote.py --name ctr_deepfm --history
    python jobs/promote.py --name ctr_deepfm --rollback
"""

import logging
from dataclasses import asdict

import click

from deepfm.cli.job import JobCommand, job, load_profile
from deepfm.cli.options.common import profile_option, tracking_option
from deepfm.cli.spark.progress import show_progress
from deepfm.cli.spark.session import spark_session
from deepfm.errors import UserError
from deepfm.registry import gate, promotion, seen_rows
from deepfm.scoring.compare import compare_models
from deepfm.tracking.store import open_store

logger = logging.getLogger(__name__)


@click.command(cls=JobCommand, help=__doc__)
@click.option("--name", required=True, help="Registered model.")
@click.option("--version", help="Version to compare; default: the last one trained.")
@click.option("--rollback", is_flag=True, help="Make the previous champion the champion again.")
@click.option("--history", is_flag=True, help="Show every change of the champion, with its reasons.")
@click.option("--dry-run", is_flag=True, help="Compare and show the decision; change no alias and no run.")
@tracking_option
@profile_option
@job
def promote(name, version, rollback, history, dry_run, tracking_uri, profile_path) -> dict:
    if sum([rollback, history, version is not None]) > 1:
        raise UserError("--version, --rollback and --history exclude each other; give one of them")
    if dry_run and (rollback or history):
        raise UserError(
            "--dry-run: expected a comparison, found --rollback or --history; remove one of the two"
        )
    profile = load_profile(profile_path)
    store = open_store(profile.mlflow, tracking_uri)
    if history:
        changes = promotion.history(store, name)
        click.echo(
            "\n".join(map(promotion.format_change, changes)) or f"{name} has never had a champion", err=True
        )
        champion = promotion.champion_version(store, name)
        return _summary(name, champion, False, None, ()) | {"history": [asdict(change) for change in changes]}
    if rollback:
        change = promotion.rollback(store, name)
        return _summary(name, change.version, True, change.previous_version, change.reasons)
    candidate = (
        store.resolve(f"models:/{name}/{version}") if version else promotion.candidate_version(store, name)
    )
    champion = promotion.champion_version(store, name)
    if champion == str(candidate.version):
        return _summary(name, champion, False, champion, (f"version {champion} is already champion",))
    champion_version = store.resolve(f"models:/{name}/{champion}") if champion else None
    if not dry_run:  # the check sets and removes an alias
        store.check_promotion(name)
    with spark_session(profile, "promote") as spark, show_progress(spark, "promote"):
        comparison = compare_models(spark, store, candidate, champion_version, profile.promotion)
    verdict = seen_rows.decide_promotion(
        comparison.unseen, comparison.candidate, comparison.champion, profile.promotion
    )
    if dry_run:
        decision = "would become champion" if verdict.promoted else "would not become champion"
        logger.info("dry run: version %s %s: %s", candidate.version, decision, "; ".join(verdict.reasons))
        summary = _summary(name, str(candidate.version), False, champion, verdict.reasons)
        return summary | {"dry_run": True, "would_be_promoted": verdict.promoted}
    if verdict.promoted:
        reasons, chosen = verdict.reasons, str(candidate.version)
        promotion.move_champion(store, name, chosen, "promote", reasons, expected=champion)
    store.log_verdict(candidate, gate.document(comparison.candidate, comparison.champion, verdict))
    return _summary(name, str(candidate.version), verdict.promoted, champion, verdict.reasons)


def _summary(name, version, promoted, previous_version, reasons) -> dict:
    return {
        "name": name,
        "version": version,
        "promoted": promoted,
        "previous_version": previous_version,
        "reasons": list(reasons),
    }

"""Tables that the demo prints to stdout."""

from rich.console import Console
from rich.table import Table


def show_tables(stages: dict[str, dict], truth: dict | None, runs: str) -> None:
    """Print the jobs' summaries by stage, with the best possible metrics if the truth is known.

    `runs` is the command that shows the runs in MLflow.
    """
    features, trained, promoted, scored = (stages[name] for name in ("features", "train", "promote", "score"))
    results = Table("What happened", "")
    results.add_row("impressions", f"{features['rows_read']:,} read, {features['rows_bad']:,} rejected")
    results.add_row("features", f"{features['num_ids']:,} ids of {features['num_fields']} fields")
    speed = f"{trained['samples_per_s']:,} samples/s"
    results.add_row("training", f"{trained['num_workers']} workers, {trained['epochs']} epochs, {speed}")
    decision = "is champion: " if promoted["promoted"] else "is not champion: "
    results.add_row(f"version {promoted['version']}", decision + "\n".join(promoted["reasons"]))
    mean = f"mean probability {scored['mean_probability']:.4f}"
    results.add_row(
        scored["date"], f"{scored['rows_scored']:,} scored by version {scored['version']}, {mean}"
    )
    metrics = Table("On the held-out rows", "AUC", "logloss")
    if truth:
        best = [f"{truth[key]:.4f}" for key in ("bayes_auc", "bayes_logloss")]
        metrics.add_row("true probabilities (best possible)", *best)
    metrics.add_row("DeepFM", f"{trained['test_auc']:.4f}", f"{trained['test_logloss']:.4f}")
    metrics.add_row("constant CTR", "0.5000", f"{trained['test_ctr_logloss']:.4f}")
    seconds = Table("Stage", "seconds")
    for stage, summary in stages.items():
        seconds.add_row(stage, f"{summary['seconds']:.0f}")
    Console().print(results, metrics, seconds)
    Console().print(f"Scores:  {scored['output']}\nRuns:    {runs}", soft_wrap=True)

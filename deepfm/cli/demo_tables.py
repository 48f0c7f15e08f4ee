"""What the demo came to, as tables on stdout."""

from rich.console import Console
from rich.table import Table


def show_tables(stages: dict[str, dict], truth: dict | None, runs: str) -> None:
    """The jobs' summaries by stage beside the planted truth, if known; `runs`: what shows them in MLflow."""
    features, trained, promoted, scored = (stages[name] for name in ("features", "train", "promote", "score"))
    facts = Table("What happened", "")
    facts.add_row("impressions", f"{features['rows_read']:,} read, {features['rows_bad']:,} set aside")
    facts.add_row("features", f"{features['num_ids']:,} ids of {features['num_fields']} fields")
    speed = f"{trained['samples_per_s']:,} samples/s"
    facts.add_row("training", f"{trained['num_workers']} workers, {trained['epochs']} epochs, {speed}")
    became = "is champion: " if promoted["promoted"] else "is not champion: "
    facts.add_row(f"version {promoted['version']}", became + "\n".join(promoted["reasons"]))
    mean = f"mean probability {scored['mean_probability']:.4f}"
    facts.add_row(scored["date"], f"{scored['rows_scored']:,} scored by version {scored['version']}, {mean}")
    figures = Table("On the held-out rows", "AUC", "logloss")
    if truth:
        best = [f"{truth[key]:.4f}" for key in ("bayes_auc", "bayes_logloss")]
        figures.add_row("the planted truth (no model can beat it)", *best)
    figures.add_row("DeepFM", f"{trained['test_auc']:.4f}", f"{trained['test_logloss']:.4f}")
    figures.add_row("always the CTR", "0.5000", f"{trained['test_ctr_logloss']:.4f}")
    seconds = Table("Stage", "seconds")
    for stage, summary in stages.items():
        seconds.add_row(stage, f"{summary['seconds']:.0f}")
    Console().print(facts, figures, seconds)
    Console().print(f"Scores:  {scored['output']}\nRuns:    {runs}", soft_wrap=True)

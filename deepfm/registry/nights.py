"""Published nights as runs of MLflow, so that they can be plotted one after the other."""

import logging

from mlflow.exceptions import MlflowException

from deepfm.registry.tracking import Store

logger = logging.getLogger(__name__)


def log_night(
    store: Store, name: str, day: str, *, tags: dict[str, str], figures: dict[str, float], page: str | None
) -> None:
    """Log a night of the model `name` into the experiment NAME-nights.

    A server that is away stops no night: the day stands, and its report beside it.
    """
    try:
        with store.run(f"{name}-nights", name=day, tags={"day": day, **tags}) as run:
            run.log_metrics(figures)
            if page is not None:
                run.log_text(page, "report.html")
    except MlflowException as error:
        logger.warning("%s is published but not logged at %s: %s", day, store.uri, error)

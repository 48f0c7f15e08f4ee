"""Held-out rows that no compared model was trained on, and the remarks about the others."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from deepfm.artifact.training_data import TrainingData
from deepfm.registry.gate import ModelEvaluation, Verdict, decide
from deepfm.registry.held_out import HeldOutRows, find_seen
from deepfm.settings.deployment import PromotionLimits


@dataclass(frozen=True)
class ModelLineage:
    """What a version was trained on: its own data, and those of the models that it started from."""

    version: str
    data: tuple[TrainingData, ...]
    role: str = ""  # in a comparison: the champion
    unknown_start: str = ""  # model that it started from, if its data are unknown, and the reason

    @property
    def unknown(self) -> str:
        """What is unknown about its data, as a sentence; empty: nothing."""
        return f"{self._name}, started from {self.unknown_start}" if self.unknown_start else ""

    def subject(self, index: int) -> str:
        """Beginning of a sentence about data[index]."""
        if index:
            return f"{self._name}, started from {self.data[index].model}, which"
        return f"{self._name}," if self.role else self._name

    @property
    def _name(self) -> str:
        return f"version {self.version}, {self.role}" if self.role else f"version {self.version}"


@dataclass(frozen=True)
class UnseenRows:
    """Held-out rows that no compared model was trained on."""

    held_out: HeldOutRows  # all of them
    rows: HeldOutRows | None  # None: a model was trained on all of them
    findings: tuple[str, ...] = ()  # such as "version 1, the champion, was trained on 2026-01-03"
    unknown: tuple[str, ...] = ()  # what cannot be known

    @property
    def are_narrowed(self) -> bool:
        """Whether rows are left out of the comparison."""
        return self.rows is not None and self.rows != self.held_out

    @property
    def reasons(self) -> tuple[str, ...]:
        """Remarks for the verdict of a comparison on these rows; empty if all rows are compared."""
        remarks = self._unknown_remarks
        if self.rows is None:
            remarks.append(f"warning: {self.warning}")
        elif self.are_narrowed:
            remarks.append(f"compared on {self.rows.text}, which no model has seen: {self._text}")
        return tuple(remarks)

    @property
    def warning(self) -> str:
        """Warning about a comparison on rows that a model was trained on."""
        return f"{self._text}: its metrics on {self.held_out.text} are better than on new rows"

    @property
    def refusal(self) -> Verdict:
        """Verdict if no row may be compared."""
        later = (
            "a later test day" if self.held_out.days else "the split of the other model, or with later rows"
        )
        failed = (
            f"FAILED: {self._text}; there are no other held-out rows to compare on: build a dataset with "
            f"{later}, or set promotion.on_seen_rows: warn"
        )
        return Verdict(False, (failed, *self._unknown_remarks))

    @property
    def _unknown_remarks(self) -> list[str]:
        return [f"{text}: whether rows overlap is unknown" for text in self.unknown]

    @property
    def _text(self) -> str:
        return "; ".join(self.findings)


def find_unseen(held_out: HeldOutRows, models: Sequence[ModelLineage]) -> UnseenRows:
    """Find the held-out rows that none of the models was trained or validated on."""
    unseen = UnseenRows(held_out, held_out, unknown=tuple(model.unknown for model in models if model.unknown))
    for model in models:
        for index, data in enumerate(model.data):
            unseen = _without_seen(unseen, model.subject(index), data)
    return unseen


def _without_seen(unseen: UnseenRows, subject: str, data: TrainingData) -> UnseenRows:
    # All held-out rows are looked for, also those that another model has seen: each finding is complete.
    seen = find_seen(unseen.held_out, data)
    if seen is None:
        return unseen
    text = f"{subject} {seen.text}"
    if not seen.is_known:
        return replace(unseen, unknown=tuple(dict.fromkeys((*unseen.unknown, text))))
    remaining = find_seen(unseen.rows, data) if unseen.rows else None
    rows = remaining.remaining if remaining else unseen.rows
    return replace(unseen, rows=rows, findings=tuple(dict.fromkeys((*unseen.findings, text))))


def decide_promotion(
    unseen: UnseenRows,
    candidate: ModelEvaluation | None,
    champion: ModelEvaluation | None,
    limits: PromotionLimits,
) -> Verdict:
    """Decide by gate.decide, with remarks on the rows; refuse a candidate that was not evaluated."""
    if candidate is None:
        return unseen.refusal
    verdict = decide(candidate, champion, limits)
    return Verdict(verdict.promoted, (*verdict.reasons, *unseen.reasons))


def seen_days_warning(model: ModelLineage, day: str, url: str) -> str | None:
    """Warning if a model was trained or validated on a day of a log; None if it was not or it is unknown."""
    rows = HeldOutRows(TrainingData(model="", url=url), days=(day,))
    unseen = find_unseen(rows, [model])
    return unseen.warning if unseen.findings else None

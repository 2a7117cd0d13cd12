"""Yield, reasons and histograms as the page's template prints them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cosmos_engine.report.histogram import HEIGHT, WIDTH, MeasureView, measure_views
from cosmos_engine.report.outcome import EXCLUDED, Outcome


@dataclass(frozen=True)
class ShareView:
    """One part of a whole: what, how many, and its share in percent."""

    label: str
    count: int
    percent: float
    kind: str
    """"accepted" or "rejected": its colour."""


@dataclass(frozen=True)
class OutcomeView:
    """What became of all that was tried.

    Attributes:
        headline: the yield in one sentence.
        shares: of the variants asked for: accepted at each try, then rejected by reason.
        failed_tries: measure -> tries that failed it, and their share of all that failed, in percent.
        apart: what is counted apart, a sentence each.
        measures: histograms.
        width: of a histogram, in its own units.
        height: of a histogram, in its own units.
    """

    headline: str
    shares: tuple[ShareView, ...]
    failed_tries: tuple[ShareView, ...]
    apart: tuple[str, ...]
    measures: tuple[MeasureView, ...]
    width: float = WIDTH
    height: float = HEIGHT


def outcome_view(outcome: Outcome) -> OutcomeView:
    """Return the outcome in words, shares of a bar, and histograms."""
    asked = outcome.asked
    rejected = {reason: count for reason, count in outcome.rejected.items() if reason != EXCLUDED}
    parts: list[tuple[str, int, str]] = []
    counted = sum(outcome.accepted_at.values())
    parts += [(f"accepted at try {tries}", count, "accepted") for tries, count in outcome.accepted_at.items()]
    if outcome.accepted > counted:
        parts.append(
            ("accepted" if not counted else "accepted, tries not counted", outcome.accepted - counted, "accepted")
        )
    parts += [(reason_text(reason), count, "rejected") for reason, count in rejected.items()]
    failed = outcome.failed_tries
    return OutcomeView(
        headline=_headline(outcome),
        shares=tuple(ShareView(label, count, 100 * count / max(asked, 1), kind) for label, count, kind in parts),
        failed_tries=tuple(
            ShareView(measure, count, 100 * count / max(failed.values()), "rejected")
            for measure, count in failed.items()
        ),
        apart=_apart(outcome),
        measures=measure_views(outcome.measures),
    )


def reason_text(reason: str) -> str:
    """Return a reason of `rejected.json` as a reader understands it."""
    return _REASONS.get(reason, reason)


_REASONS: Mapping[str, str] = {
    "gate": "never passed the gate",
    "near-duplicate": "near-duplicate of a sibling",
    "static": "static or black",
    EXCLUDED: "excluded by a person",
}


def _headline(outcome: Outcome) -> str:
    if not outcome.asked:
        return "No variant was asked for."
    share = f"{100 * outcome.accepted / outcome.asked:.1f} %"
    text = f"{outcome.accepted} of {outcome.asked} variants ({share}) are in the dataset"
    if outcome.tries is None or not outcome.tries:
        return f"{text}. Nobody counted the tries."
    of_tries = f"{100 * outcome.accepted / outcome.tries:.1f} %"
    return f"{text}, after {outcome.tries} tries: {of_tries} of the tries made a variant."


def _apart(outcome: Outcome) -> tuple[str, ...]:
    sentences = []
    if count := outcome.rejected.get(EXCLUDED, 0):
        sentences.append(f"{count} variant{'s' * (count != 1)} excluded by a person, in no figure above.")
    for reason, count in outcome.demos_left_out.items():
        sentences.append(f"{count} demo{'s' * (count != 1)} left out whole: {reason_text(reason)}.")
    return tuple(sentences)

"""What an analysis declares for a model's card, told of one run from the summaries that the catalogue keeps."""

from __future__ import annotations

from collections.abc import Mapping

from analysis import find_analysis
from analysis.spec import Analysis, Headline, Stripe, UnknownName
from store import RunInfo


def headlines(run: RunInfo) -> tuple[Headline, ...]:
    """The headline numbers of a run; none where its analysis has none, or its file is of an older kind."""
    analysis = _analysis(run)
    if analysis is None:
        return ()
    try:
        return analysis.headlines(run.summaries)
    except KeyError:  # a column that a declaration of today reads is not in a file of yesterday
        return ()


def stripes(run: RunInfo) -> list[tuple[Stripe, Mapping[int, float]]]:
    """The rows of the bar code that a run has numbers for, each with its value per layer."""
    analysis = _analysis(run)
    found = []
    for stripe in analysis.stripes if analysis else ():
        try:
            values = stripe.values(run.summaries)
        except KeyError:  # as above
            continue
        if values:
            found.append((stripe, values))
    return found


def _analysis(run: RunInfo) -> Analysis | None:
    """The registered analysis that made a run; None where it is not registered, or its numbers have changed meaning."""
    try:
        analysis = find_analysis(run.slug)
    except UnknownName:
        return None
    return analysis if analysis.version == run.version else None

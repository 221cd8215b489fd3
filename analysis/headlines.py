"""What an analysis declares for a model's card, told of one run from the summaries that the catalogue keeps."""

from __future__ import annotations

import math
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


def place(stripe: Stripe, value: float) -> float:
    """Where a value lies on its row's colour scale: 0 at the low end, 1 at the high end, never beyond."""
    if stripe.log:
        share = math.log(max(value, stripe.low) / stripe.low) / math.log(stripe.high / stripe.low)
    else:
        share = (value - stripe.low) / (stripe.high - stripe.low)
    return min(max(share, 0.0), 1.0)


def _analysis(run: RunInfo) -> Analysis | None:
    """The registered analysis that made a run; None where it is not registered, or its numbers have changed meaning."""
    try:
        analysis = find_analysis(run.slug)
    except UnknownName:
        return None
    return analysis if analysis.version == run.version else None

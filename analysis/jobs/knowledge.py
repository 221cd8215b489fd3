"""What is known of models without opening them: facts, and who cannot answer for them and why.

Written by the process of a job, which has the model open; read by pages, which never do.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from analysis.jobs.request import reference
from analysis.spec import Analysis, UserError

if TYPE_CHECKING:
    from store import Store

BRIDGE = "bridge"
"""Name of the fact that says whether TransformerLens' bridge computes what the model computes (`analysis.models.parity.Parity`)."""
_LOOK_TOKENS, _LOOK_WINDOW = 64, 16
"""Text that a model is given when it is only looked at."""


def why_not(store: Store, analysis: Analysis, model: str) -> str | None:
    """The sentence why this analysis cannot run on that model; None where it can, or where nobody has asked it yet.

    ``store.known.get(reference(model))`` tells the two apart: `Jobs.inspect` asks every analysis.
    """
    known = store.known.get(reference(model))
    said = known.needs.get(analysis.slug) if known else None
    return said.words if said and said.version == analysis.version else None


def remember(store: Store, ref: str, subject: Any) -> None:
    """File what an opened subject says of itself; what `inspect` found out about the same weights is kept."""
    known = store.known.get(ref)
    same = known is not None and known.fingerprints.get("weights") == subject.fingerprints.get("weights")
    kept = {BRIDGE: known.facts[BRIDGE]} if known is not None and same and BRIDGE in known.facts else {}
    store.known.add(
        ref,
        name=subject.name,
        label=subject.label,
        source=str(subject.source),
        task=subject.task,
        dtype=subject.dtype,
        fingerprints={name: value for name, value in subject.fingerprints.items() if name != "data"},
        facts=kept | subject.facts,
    )


def inspect(store: Store, model: str, device: str, progress: Callable[[str, float, float], None]) -> None:
    """Open a model, file its facts, ask every analysis whether it can run on it, and compare TransformerLens' bridge with it."""
    from analysis import ANALYSES
    from analysis.models import open_subject

    ref = reference(model)
    bare = open_subject(ref, device=device, progress=progress)
    remember(store, ref, bare)
    reader: Any = None
    unread = None
    try:
        reader = open_subject(ref, "python-docs", device=device, n_tokens=_LOOK_TOKENS, window=_LOOK_WINDOW, progress=progress)
    except UserError as error:
        unread = str(error)
    for i, analysis in enumerate(ANALYSES):
        progress(f"asking {analysis.slug}", i, len(ANALYSES))
        words = unread if analysis.reads_data and unread else _ask(analysis, reader if analysis.reads_data else bare)
        store.known.add_need(ref, analysis.slug, analysis.version, words)
    if bare.series:
        return  # no one model that a bridge could be compared with
    progress("comparing with TransformerLens", len(ANALYSES), len(ANALYSES))
    bare.facts[BRIDGE] = bare.bridge_parity().facts()
    remember(store, ref, bare)


def _ask(analysis: Analysis, subject: Any) -> str | None:
    try:
        return analysis.why_not(subject)
    except UserError as error:
        return str(error)

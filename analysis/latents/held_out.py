"""Which text a dictionary is judged on: documents it was not trained on, cut no longer than what it was trained on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.spec import UserError

if TYPE_CHECKING:
    from analysis.latents.dictionary import Dictionary


@dataclass(frozen=True)
class HeldOut:
    """A subject with the windows that are left, and what is known of the rest."""

    subject: Any
    words: str
    """What is known of the text it was trained on, as a sentence."""
    n_left_out: int
    """Documents left out because they trained it."""


def held_out(subject: Any, dictionary: Dictionary) -> HeldOut:
    """The subject without the documents that trained the dictionary, where its file names them.

    Where all of them did, all stay, and the words say so: a number of training text is better than none, if it is called that.
    """
    data = subject.data
    trained, source = dictionary.metadata.get("documents"), dictionary.metadata.get("data")
    if not trained:
        return HeldOut(subject, "What text trained this SAE is not known, so these documents may have been among it.", 0)
    if source is not None and source != data.name:
        return HeldOut(subject, f"The SAE was trained on {source}; this is {data.name}.", 0)
    names = set(trained)
    seen = np.array([data.documents[i] in names for i in data.document])
    n_seen = len({data.documents[i] for i in np.unique(data.document)} & names)
    if seen.all():
        return HeldOut(subject, "Every document of this text trained the SAE: these are numbers of its training text.", 0)
    if not seen.any():
        return HeldOut(subject, "None of these documents trained the SAE.", 0)
    kept = replace(subject, data=data.only(np.flatnonzero(~seen)))
    return HeldOut(kept, f"None of these documents trained the SAE; {n_seen} that did were left out.", n_seen)


def check_context(subject: Any, dictionary: Dictionary) -> str:
    """What the length of the windows means for the numbers, as a sentence. Raises `UserError` where they are longer than in training."""
    window, context = int(subject.data.token_ids.shape[1]), dictionary.context_size
    if context is None:
        return f"Windows of {window} tokens; the SAE's training context is not known."
    if window > context:
        raise UserError(
            f"the window must be at most the {context} tokens of the SAE's training context, got {window}; set window={context}."
        )
    if window < context:
        return f"Windows of {window} tokens, shorter than the SAE's training context of {context}: later positions are not judged."
    return f"Windows of {window} tokens, the SAE's training context."

"""Does a dictionary belong to this model and place? Asked before anything is measured with it, answered in sentences.

1. Refused: a model known to be of another architecture, a hook point that this model does not have, a width that is not the place's.
2. Found, and said: what its file tells of model, first tokens and normalisation, and how much of the variance it explains on a few
   tokens of the subject's own data. An SAE of another layer fits in every width and name; only this number shows it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from analysis.spec import UserError

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from analysis.latents.dictionary import Dictionary
    from analysis.latents.places import Place
    from analysis.stats.number import Number

TOKENS = 512
"""Tokens, about, on which it is tried."""
POOR = 0.5
"""Explained variance below which the sentence warns; published SAEs of language models explain about 0.7 to 0.99 (METHODS D5)."""
DOUBT = "it may be of another model or layer"
"""What the sentence says then, so that pages can tell it from the others."""
_FAMILIES: Mapping[str, tuple[str, ...]] = {
    "smollm3": ("smollm3",), "smollm": ("llama",), "tinyllama": ("llama",), "llama": ("llama", "mllama"), "vicuna": ("llama",),
    "pythia": ("gpt_neox",), "gpt-neox": ("gpt_neox",), "gpt-neo": ("gpt_neo",), "tiny-stories": ("gpt_neo",), "tinystories": ("gpt_neo",),
    "gpt-j": ("gptj",), "gpt2": ("gpt2",), "gpt-2": ("gpt2",), "gemma": ("gemma",), "mixtral": ("mixtral",), "mistral": ("mistral",),
    "qwen": ("qwen",), "phi": ("phi",), "opt-": ("opt",), "bloom": ("bloom",), "mamba": ("mamba",), "t5": ("t5",),
    "distilbert": ("distilbert",), "roberta": ("roberta", "xlm-roberta"), "albert": ("albert",), "bert": ("bert",), "minilm": ("bert",),
    "vit": ("vit", "clip"), "clip": ("clip",),
}  # fmt: skip
"""What a model's name holds, and what the types of its architecture hold. The first that fits counts."""


@dataclass(frozen=True)
class Preflight:
    """What came of it."""

    place: Place
    """Where the dictionary reads."""
    findings: tuple[str, ...]
    """Sentences: model, hook point, width, normalisation, reconstruction."""
    out: Place | None = None
    """Of a transcoder: what it predicts."""
    explained_variance: float | None = None
    """On the tokens that were tried; None where nothing could be tried."""


def preflight(dictionary: Dictionary, subject: Any, *, at: str = "") -> Preflight:
    """Find the dictionary's place in the model and try it there. ``at``: a place to take instead of the one its file names.

    Raises `UserError`, which names what is wrong: the model, the hook point or the width.
    """
    from analysis.latents.places import places

    model_words = check_model(dictionary, subject)
    batch = subject.probe_batch() if subject.data is None else next(iter(subject.data.batches(1, subject.device)))[0]
    found = places(subject.model, batch, names=subject.hook_names())
    place, hook_words = _place_of(dictionary, subject, found, at or dictionary.place_name, at or dictionary.hook_name)
    out = _place_of(dictionary, subject, found, None, dictionary.out_hook_name)[0] if dictionary.transcoder else None
    _check_width(dictionary, place, dictionary.d_in, "reads")
    if out is not None:
        _check_width(dictionary, out, dictionary.d_out, "predicts")
    explained, tried_words = _try(dictionary, subject, found, place, out)
    width_words = f"It reads {dictionary.d_in:,} values, the width of the place, into {dictionary.d_sae:,} latents."
    beginning = _beginning_words(dictionary, subject.data)
    findings = (model_words, hook_words, width_words, *_normalisation_words(dictionary), *beginning, tried_words)
    return Preflight(place, findings, out, None if explained is None else explained.value)


# ---------------------------------------------------------------------------------------------------------------------
# Model


def check_model(dictionary: Dictionary, subject: Any) -> str:
    """What can be told of whose it is, as a sentence. Raises `UserError` where its model is known to be of another architecture."""
    given, weights = dictionary.model_name, dictionary.metadata.get("model_fingerprint")
    if weights is not None and weights == subject.fingerprints.get("weights"):
        return f"It was trained on these very weights ({subject.label})."
    if not given:
        return f"Its file does not say of which model it is; whether of {subject.label} can only be told by trying it."
    architecture = str(getattr(getattr(subject.model, "config", None), "model_type", ""))
    same = _plain(given) in {_plain(name) for name in _names_of(subject)}
    if not same and architecture and _foreign(family_of(given), architecture.lower()):
        raise UserError(
            f"the SAE must be of the model it is used on, got {dictionary.label}, which is of {given}, for {subject.label} "
            f"({architecture}): another architecture; give an SAE of this model."
        )
    if weights is not None:
        return f"It was trained on {given} with other weights than those of {subject.label}: fine-tuned or quantised, perhaps."
    if same:
        return f"It is of {given}, and so is the model, by its name."
    return f"It is of {given}; whether that is {subject.label} cannot be told from the names."


def family_of(name: str) -> tuple[str, ...]:
    """What the types of architecture of a model of that name hold; empty where the name says nothing."""
    plain = _plain(name)
    return next((types for part, types in _FAMILIES.items() if part in plain), ())


def _foreign(wanted: tuple[str, ...], architecture: str) -> bool:
    """Whether a type of architecture is of another family: ModernBERT is a BERT by its type, RoBERTa is listed as itself."""
    held, own = any(part in architecture for part in wanted), family_of(architecture)
    return bool(wanted) and not (held and (not own or any(part in wanted for part in own)))


def _plain(name: str) -> str:
    plain = name.lower().rpartition("/")[2]
    return {"gpt2-small": "gpt2"}.get(plain, plain)


def _names_of(subject: Any) -> set[str]:
    config = getattr(subject.model, "config", None)
    return {name for name in (subject.name, subject.source, str(getattr(config, "_name_or_path", ""))) if name}


# ---------------------------------------------------------------------------------------------------------------------
# Place


def _place_of(dictionary: Dictionary, subject: Any, found: Sequence[Place], name: str | None, hook: str | None) -> tuple[Place, str]:
    """The place, and how it was found; by its identity where that is known and there, else by its hook name."""
    from analysis.latents.places import place_named

    own = next((place for place in found if place.name == name), None)
    if own is not None:
        return own, f"It reads {own.hook_name}, {_KINDS[own.kind]} in layer {own.layer}."
    if not hook:
        raise UserError(f"the SAE must say at which hook point it was trained, got none in the file of {dictionary.label}; name the place.")
    try:
        place = place_named(found, hook)
    except UserError as error:
        near = str(error).partition("; ")[2].rstrip(".")
        raise UserError(
            f"the hook point of the SAE must be a place of {subject.label}, got {hook} ({near}); give an SAE of this model."
        ) from error
    words = f"It reads {hook}, {_KINDS[place.kind]} in layer {place.layer}."
    if hook in place.nearly:
        words = (
            f"It reads {hook}, which is taken as {place.hook_name}, what the MLP reads behind its norm; in some libraries it means values "
            "before the norm, or before the norm's weights."
        )
    return place, words


_KINDS = {
    "residual": "the residual stream", "mlp_in": "what the MLP reads", "mlp_out": "what the MLP adds to the stream",
    "attention_out": "what attention adds to the stream", "attention_z": "the outputs of the heads side by side",
    "ffn": "the inner activation of the MLP", "conv": "the channels in front of a convolution", "matrix": "what a matrix reads",
}  # fmt: skip


def _check_width(dictionary: Dictionary, place: Place, width: int, verb: str) -> None:
    if place.width == width:
        return
    head = dictionary.metadata.get("hook_head_index")
    why = (
        f"it reads head {head} alone, and SAEs of single heads are not supported" if head is not None else "it is of another model or place"
    )
    raise UserError(
        f"the width of what the SAE {verb} must be that of {place.hook_name}, {place.width:,}, got {width:,} in {dictionary.label}; {why}."
    )


def _normalisation_words(dictionary: Dictionary) -> tuple[str, ...]:
    if dictionary.notes:
        return dictionary.notes
    words = {
        "constant_norm_rescale": "Each row is brought to the norm sqrt(d) before it is read, and back afterwards.",
        "layer_norm": "Each row is centred and scaled before it is read, and brought back afterwards.",
    }
    return (words.get(dictionary.normalisation, "It reads activations as they are."),)


def _beginning_words(dictionary: Dictionary, data: Any) -> tuple[str, ...]:
    """Whether training windows began with a token that these lack, or the other way round: what attention sinks to differs with it."""
    from analysis.latents.dictionary import PLACE
    from analysis.latents.masking import begins_with_special

    trained = dictionary.metadata.get("prepend_bos")
    if trained is None or data is None or data.token_ids is None or bool(trained) == begins_with_special(data):
        return ()
    if trained:
        return (
            "It was trained on windows that begin with a BOS token, and these begin with text: the first positions differ from training.",
        )
    if PLACE in dictionary.metadata:  # those made here said False of any windows once
        return ()
    return (
        "It was trained on windows without a BOS token, and these begin with a special token: the first positions differ from training.",
    )


# ---------------------------------------------------------------------------------------------------------------------
# Reconstruction


def _try(dictionary: Dictionary, subject: Any, found: Sequence[Place], place: Place, out: Place | None) -> tuple[Number | None, str]:
    """Explained variance on a few windows, in words that say what it means."""
    if subject.data is None:
        return None, f"Whether it reconstructs was not tried, since {subject.label} was opened without data."
    explained, n, left_out = _explained(dictionary, subject, [(place, out or place)])[0]
    where = f"{n:,} tokens of {subject.data.name}" if left_out else f"{n:,} rows of {subject.data.name}"
    where += f" ({left_out} left out)" if left_out else ""
    if explained.value is None:
        return None, f"Whether it reconstructs cannot be told on {where}: {explained.why}."
    what = "of the variance of what it predicts" if out is not None else "of the variance"
    if explained.value >= POOR:
        return explained, f"It explains {explained.value:.1%} {what} on {where}."
    better = "" if out is not None else _better(dictionary, subject, found, place, explained.value)
    share = (
        f"It explains {explained.value:.1%} {what}"
        if explained.value > 0
        else "It reconstructs worse than the mean of the activations would"
    )
    return explained, f"{share} on {where}: less than SAEs usually do (70 to 99 %); {DOUBT}.{better}"


def _better(dictionary: Dictionary, subject: Any, found: Sequence[Place], place: Place, value: float) -> str:
    """Where, among places of the same kind and width, it explains far more; empty where nowhere."""
    others = [one for one in found if one != place and (one.kind, one.width) == (place.kind, place.width)]
    if not others:
        return ""
    tried = zip(others, _explained(dictionary, subject, [(one, one) for one in others]), strict=True)
    best, most = max(((one, number.value) for one, (number, _, _) in tried if number.value is not None), key=lambda pair: pair[1])
    return f" At {best.hook_name} it explains {most:.1%}." if most > max(value + 0.1, 0.1) else ""


def _explained(dictionary: Dictionary, subject: Any, pairs: Sequence[tuple[Place, Place]]) -> list[tuple[Number, int, str]]:
    """For each place and what is to be reconstructed there: explained variance, rows, and what was left out. One pass for all."""
    import numpy as np
    import torch

    from analysis.latents.places import reading
    from analysis.stats.reconstruction import Fidelity

    sums = [Fidelity.empty(1, wanted.width) for _, wanted in pairs]
    left_out = ""
    for batch, windows in _some(subject.data):
        values: dict[str, tuple[Tensor, Tensor]] = {}
        chosen = list({one.name: one for pair in pairs for one in pair}.values())
        with reading(subject.model, chosen, lambda at, rows, index: values.update({at.name: (rows, index)}), stop=True) as session:  # noqa: B023
            session.run(batch)
        for total, (place, wanted) in zip(sums, pairs, strict=True):
            if place.name not in values or wanted.name not in values:
                continue
            (x, index), (y, _) = values[place.name], values[wanted.name]
            keep, left_out = _kept(subject.data, windows, place, index)
            with torch.no_grad():
                x_hat = dictionary.reconstruct(x[keep].to(dictionary.device).float())
            total.update(y[keep].float(), x_hat.to(y.device), np.zeros(int(keep.sum()), np.int64))
    return [(total.fvu().one_minus(), total.n, left_out) for total in sums]


def _some(data: Any) -> Any:
    """A few batches, together of about `TOKENS` tokens, or as many examples, from the start, the middle and the end."""
    import itertools

    import numpy as np

    ids = data.token_ids
    n = min(data.n_windows, TOKENS if ids is None else max(1, TOKENS // ids.shape[1]))
    if ids is None:
        return itertools.islice(data.batches(4), max(1, n // 4))
    some = data.only(np.unique(np.linspace(0, data.n_windows - 1, n).astype(np.int64)))
    return [(batch, some.only(np.arange(at.start, at.stop))) for batch, at in some.batches(4)]


def _kept(data: Any, windows: Any, place: Place, index: Tensor) -> tuple[Any, str]:
    """Which rows count: of text, neither first positions (whose norms are often a hundred times the others') nor special tokens."""
    import torch

    if data.token_ids is None or place.site.stream == "rows":
        return torch.ones(len(index), dtype=torch.bool), ""
    special = torch.from_numpy(_special(windows)).to(index.device)
    return (~special.reshape(-1)[index]).cpu(), "first positions and special tokens"


def _special(windows: Any) -> np.ndarray:
    import numpy as np

    special = np.zeros(windows.token_ids.shape, bool) if windows.special is None else windows.special.copy()
    special[:, 0] = True
    return special

"""Does TransformerLens' bridge compute what the model computes? Asked of a copy, since a bridge replaces submodules in place.

1. Skip with words where the copy would not fit into memory: a bridge is a convenience, never a reason to run out of it.
2. Copy the model, build a `TransformerBridge` around the copy, run a tiny probe batch through both.
3. Compare what they give: the largest difference, KL(model || bridge) per position, and where the largest logit stands.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from analysis.models.hooks import STUMBLES, in_a_line
from analysis.spec import UserError

if TYPE_CHECKING:
    import torch

    from analysis.models.subject import Subject

Verdict = Literal["agrees", "differs", "none"]
TOLERANCE: Mapping[str, float] = {"float64": 1e-8, "float32": 1e-4, "float16": 1e-2, "bfloat16": 5e-2}
"""Largest difference that counts as rounding, as a share of the largest magnitude among the model's outputs. A bridge computes
attention in another order of operations, which moves float32 logits by about 1e-6 of their size."""
SPARE = 1.5
"""Bytes that must be free per byte of weights: the copy, and what the bridge holds split (fused query, key and value)."""


@dataclass(frozen=True)
class Parity:
    """What came of the comparison. Numbers are None where there is no bridge, KL and the top also where outputs are no logits."""

    verdict: Verdict
    words: str
    """The result as one sentence, for the model's page."""
    n_positions: int | None = None
    max_difference: float | None = None
    largest: float | None = None
    """Largest magnitude among the model's outputs: what `max_difference` is judged against."""
    kl: float | None = None
    """Mean over positions of KL(model || bridge), in nats."""
    same_top: float | None = None
    """Share of positions with the same largest logit."""

    def facts(self) -> dict[str, Any]:
        """As JSON, for the model's facts."""
        return asdict(self)


def bridge_parity(subject: Subject, *, room: int | None = None) -> Parity:
    """Compare the bridge around a copy of the subject's model with the model itself; the model is not touched.

    ``room``: bytes that may be used; what is free now where not given.
    """
    full = _too_large(subject, room)
    if full is not None:
        return full
    try:
        model, batch = subject.model, subject.probe_batch()
    except UserError as error:
        return _none(f"there is nothing to compare, since {str(error).rstrip('.')}")
    if not hasattr(getattr(model, "config", None), "to_dict"):
        return _none(f"it knows models by their Hugging Face config, and {type(model).__name__} has none")
    try:
        bridge = bridge_around(copy.deepcopy(model))
    except STUMBLES as error:
        return _none(_why_not_built(error, type(model).__name__))
    own, is_logits = _run(model, batch)
    try:
        return compared(own, _run_bridge(bridge, batch, is_logits), is_logits=is_logits)
    except STUMBLES as error:
        return Parity(
            "none",
            f"TransformerLens' bridge could be built around this {type(model).__name__}, but stops with a fault of its own when it is run "
            f"({in_a_line(error)}), so nothing could be compared.",
        )


def bridge_around(model: torch.nn.Module) -> Any:
    """A `TransformerBridge` around this very module, whose submodules it replaces."""
    from analysis.models.loading import quiet

    with quiet():
        from transformer_lens.model_bridge.sources._bridge_builder import build_bridge_from_module
        from transformer_lens.model_bridge.sources.transformers import determine_architecture_from_hf_config

        config: Any = copy.deepcopy(model.config)
        config.architectures = [type(model).__name__]
        return build_bridge_from_module(model, determine_architecture_from_hf_config(config), hf_config=config)


def compared(own: torch.Tensor, bridged: torch.Tensor, *, is_logits: bool) -> Parity:
    """The verdict on two outputs [examples, positions, width] (or [examples, width]).

    Agrees: max |own - bridged| <= TOLERANCE[dtype] * max |own|. KL(own || bridged) = sum p (log p - log q) with
    p, q the softmax over the last dimension in float64, averaged over positions; 0 for equal outputs, never negative.
    """
    what = "logits" if is_logits else "outputs"
    if own.shape != bridged.shape:
        words = (
            f"TransformerLens' bridge differs from the model: its {what} have shape {tuple(bridged.shape)}, the model's {tuple(own.shape)}"
        )
        return Parity("differs", f"{words}; {_WARNING}")
    tolerance = TOLERANCE.get(str(own.dtype).removeprefix("torch."), TOLERANCE["float32"])
    a, b = own.double().flatten(0, -2), bridged.double().flatten(0, -2)
    n = len(a)
    if not bool(a.isfinite().all() and b.isfinite().all()):
        return Parity("differs", f"TransformerLens' bridge cannot be compared: some {what} are NaN or infinite; {_WARNING}", n)
    worst, largest = float((a - b).abs().max()), float(a.abs().max())
    kl, same = _as_distributions(a, b) if is_logits else (None, None)
    verdict: Verdict = "agrees" if worst <= tolerance * largest else "differs"
    verb = {"agrees": "agrees with", "differs": "differs from"}[verdict]
    words = [
        f"TransformerLens' bridge {verb} the model: on {n} probe positions the {what} differ by at most {worst:.2g}, where the "
        f"largest is {largest:.3g} and the tolerance {tolerance:g} of it"
    ]
    if kl is not None and same is not None:
        words.append(f"the largest logit is the same at {round(same * n)} positions, and the KL is {kl:.2g} nats a position")
    words += [_WARNING] if verdict == "differs" else []
    return Parity(verdict, "; ".join(words).rstrip(".") + ".", n, worst, largest, kl, same)


_WARNING = "numbers on bridge names may not match."


def _as_distributions(a: torch.Tensor, b: torch.Tensor) -> tuple[float, float]:
    """Mean KL(a || b) in nats, clipped at 0 against rounding; share of rows with the same largest entry."""
    p, q = a.log_softmax(-1), b.log_softmax(-1)
    kl = float((p.exp() * (p - q)).sum(-1).mean())
    return max(kl, 0.0), float((a.argmax(-1) == b.argmax(-1)).double().mean())


def _none(reason: str) -> Parity:
    return Parity("none", f"TransformerLens' bridge could not be built: {reason}.")


def _why_not_built(error: Exception, kind: str) -> str:
    """What a bridge stumbled over while it was built around a model of this class, in words of ours where they are known."""
    missing = re.search(r"has no attribute '(\w+)'", str(error)) if isinstance(error, AttributeError) else None
    if missing is not None:
        return f"it looks for a part '{missing[1]}', which this {kind} does not have, as it knows the architecture only in another layout"
    if "architecture" in str(error).lower():
        return f"it does not know the architecture {kind}"
    return f"it stops with a fault of its own on this {kind} ({in_a_line(error)})"


def _too_large(subject: Subject, room: int | None) -> Parity | None:
    """The answer where the copy would not fit, by the tensors' headers: nothing is loaded to find out."""
    import psutil
    import torch

    weights = sum(info.numel * getattr(torch, info.dtype, torch.float32).itemsize for info in subject.tensors())
    need = int(weights * (SPARE + (0 if subject.is_loaded else 1)))
    free = int(psutil.virtual_memory().available) if room is None else room
    if need <= free:
        return None
    return Parity(
        "none",
        f"TransformerLens' bridge was not compared with the model: a copy of the model needs about {need / 1e9:.1f} GB, "
        f"and {free / 1e9:.1f} GB are free.",
    )


def _run(model: Any, batch: Mapping[str, Any]) -> tuple[torch.Tensor, bool]:
    """The model's logits, and True; or the first tensor of its output where it has none, and False."""
    import torch

    with torch.no_grad():
        output = model(**batch)
    logits = getattr(output, "logits", None)
    if logits is not None:
        return logits, True
    return (output if isinstance(output, torch.Tensor) else output[0]), False


def _run_bridge(bridge: Any, batch: Mapping[str, Any], is_logits: bool) -> torch.Tensor:
    """What the bridge gives; where the model has no logits, what the module it is built around gives, its parts being the bridge's."""
    import torch

    if not is_logits:
        return _run(bridge.original_model, batch)[0]
    name = bridge.original_model.main_input_name
    with torch.no_grad():
        return bridge(batch[name], **{key: value for key, value in batch.items() if key != name})

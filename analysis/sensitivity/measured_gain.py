"""What does a really smaller model gain in time, beside what its cost says?

1. Heads, FFN neurons, blocks, ranks and dimensions of the stream are cut out of a copy's tensors, at each level.
2. The copy must answer as the model with these units ablated does; where it does not, it is refused and no time is told.
3. Dense and smaller model take turns in one process; what is told is the median of the turns' ratios, and its interval.

Theory and time are two columns: the cost counts FLOPs and bytes, a machine has overheads, caches and kernels of its own. Zeros that stay in
their tensors (single weights, 2 of 4, masks) gain no time with torch's dense kernels, so none is measured.
Source: SENSITIVITY, Cost ("measured time is a separate marker against the same library's dense baseline").
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from analysis.sensitivity.gain_tables import FIGURES, GAINS, NOT_CUT
from analysis.spec import Analysis, IncompatibleSubject, Source, setting

if TYPE_CHECKING:
    from torch import nn

    from analysis.interventions.cost import DenseCost
    from analysis.sensitivity.gain_ways import Cut, Way

CLOSE = {4: 1e-3, 2: 0.1}
"""How far answers may differ, over their largest value, by bytes of a weight: rounding of other orders of sums, block after block."""


@dataclass(frozen=True, kw_only=True)
class MeasuredGainConfig:
    """Settings of `measured_gain`."""

    units: str = setting("heads, neurons, blocks, ranks, dimensions", help="What to cut out, with commas")
    levels: str = setting("0.25, 0.5, 0.75", help="Shares to cut out, with commas")
    n_tokens: int = setting(128, help="Positions of a pass, and of the prompt before decoding", unit="tokens", ge=2, le=131072)
    repeats: int = setting(7, help="Measured turns of each model", unit="turns", ge=1, le=1000)
    seed: int = setting(0, help="Seed of the interval's draws of turns", ge=0, le=2**31 - 1)


def needs(subject: Any) -> str | None:
    """A model that runs."""
    if subject.facts.get("architecture") is None:
        return f"{subject.label} is weights without a model that runs, so it cannot be timed; weight_sparsity can still be run."
    return None


def run(config: MeasuredGainConfig, inputs: Mapping[str, Any], work: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Rows of a way with its unit."""
    from analysis.capture.running import unwrapped
    from analysis.interventions.calibration import calibrate
    from analysis.interventions.cost import dense_cost
    from analysis.interventions.levels import numbers
    from analysis.interventions.scope import weight_scope
    from analysis.sensitivity.choices import words
    from analysis.sensitivity.gain_timing import STEPS
    from analysis.sensitivity.gain_ways import way_of
    from analysis.sensitivity.planning import is_causal

    subject = inputs["model"]
    ways = [way_of(slug) for slug in words(config.units)]
    levels = [level for level in numbers(config.levels, "levels", 0.0, 1.0) if 0 < level < 1]
    model, batch = unwrapped(subject.model), one_example(subject, config.n_tokens, STEPS * (config.repeats + 1))
    context = batch["input_ids"].shape[1] if reads_tokens(batch) else 1
    scope = weight_scope(model)
    dense = dense_cost(model, batch, context, {m.name: m.parameter for m in scope.members}, causal=is_causal(subject))
    calibration = calibrate(model, scope, [batch], ("values",))
    work.facts |= {"machine": machine(model), "cost": dense.words, "n_tokens": context}
    for slug in work.units([way.slug for way in ways], "timing"):
        way, rows = way_of(slug), []
        try:
            cuts = way.cuts(subject, calibration, levels, lambda: _answer(model, batch))
            if not cuts:
                raise IncompatibleSubject(f"{slug} must leave at least one and take at least one at some level, got none; set levels.")
            for i, cut in enumerate(cuts):
                rows += _timed(config, way, cut, model, batch, dense)
                work.report((i + 1) / len(cuts))
        except IncompatibleSubject as error:
            yield "not_cut", {"unit": [slug], "reason": [str(error)]}
        if rows:
            yield "gains", {column.name: [row[column.name] for row in rows] for column in GAINS.columns}


def reads_tokens(batch: Any) -> bool:
    """Whether a batch is of token ids."""
    return isinstance(batch, Mapping) and "input_ids" in batch


def one_example(subject: Any, n_tokens: int, more: int = 0) -> Any:
    """One of the model's own probe examples; token ids repeated to a length, and all of them real.

    Fewer where the model takes fewer; ``more`` tokens to be decoded behind them must have room, too.
    """
    import torch

    batch = subject.probe_batch()
    if not isinstance(batch, Mapping):
        return tuple(part[:1] for part in batch) if isinstance(batch, tuple | list) else batch[:1]
    if not reads_tokens(batch):
        return {name: value[:1] for name, value in batch.items()}
    longest = int(subject.facts.get("context_length") or n_tokens + more)
    n = max(2, min(n_tokens, longest - more))
    ids = batch["input_ids"].flatten()
    ids = ids.repeat(-(-n // len(ids)))[None, :n]
    return {"input_ids": ids, **({"attention_mask": torch.ones_like(ids)} if "attention_mask" in batch else {})}


def machine(model: nn.Module) -> str:
    """What times are of, in words; no name of the machine."""
    import platform

    import torch

    parameter = next(model.parameters())
    threads = torch.get_num_threads()
    cores = f"{threads} thread{'s' if threads > 1 else ''} of a {platform.machine()} processor"
    where = cores if parameter.device.type == "cpu" else "an accelerator"
    return f"{where}, {str(parameter.dtype).removeprefix('torch.')}"


def _answer(model: nn.Module, batch: Any) -> Any:
    from analysis.capture.running import observable, run
    from analysis.tasks.objectives import answer_of

    with observable(model):
        return answer_of(run(model, batch)).float()


def _timed(config: MeasuredGainConfig, way: Way, cut: Cut, model: nn.Module, batch: Any, dense: DenseCost) -> Sequence[dict[str, Any]]:
    """A row for each phase. Raises `IncompatibleSubject` where the smaller model answers otherwise than the ablated one."""
    import numpy as np

    from analysis.interventions.spec import Cost
    from analysis.sensitivity.gain_timing import STEPS, decode, prefill, turns

    made = cut.make()
    difference = float((_answer(made, batch) - cut.answer).abs().max() / cut.answer.abs().max().clamp_min(1e-30))
    if not difference <= CLOSE.get(next(model.parameters()).element_size(), CLOSE[4]):
        raise IncompatibleSubject(
            f"a model with {way.slug} cut out must answer as the ablated one does, got a relative difference of {difference:.2g} at "
            f"{cut.level:g}; this architecture cannot be cut this way."
        )
    whole, left = dense.at(Cost(0.0)), dense.at(cut.cost)
    counted = {"prefill": left.flops / whole.flops}
    timed = {"prefill": turns(prefill(model, batch), prefill(made, batch), config.repeats)}
    longest = getattr(getattr(model, "config", None), "max_position_embeddings", None)
    room = longest is None or dense.context + STEPS * (config.repeats + 1) <= longest
    if whole.decode_bytes is not None and left.decode_bytes is not None and room:
        counted["decode"] = left.decode_bytes[1] / whole.decode_bytes[1]
        timed["decode"] = turns(decode(model, batch), decode(made, batch), config.repeats, STEPS)
    sizes = [sum(parameter.numel() for parameter in one.parameters()) for one in (made, model)]
    rows = []
    for phase, found in timed.items():
        low, high = found.interval(config.seed) or (None, None)
        rows.append({
            "unit": way.slug, "level": cut.level, "phase": phase, "method": way.method, "achieved": cut.achieved, "context": dense.context,
            "counted": counted[phase], "measured": found.ratio, "low": low, "high": high, "dense_seconds": float(np.median(found.dense)),
            "smaller_seconds": float(np.median(found.smaller)), "turns": config.repeats, "parameters": sizes[0] / sizes[1],
            "difference": difference,
        })  # fmt: skip
    return rows


MEASURED_GAIN = Analysis(
    slug="measured_gain",
    title="Measured gain",
    question="What does a really smaller model gain in time, beside what its cost says?",
    version=1,
    kind="causal",
    sources=(Source("Time of dense and smaller model by turns", "median of paired ratios, beside the counted cost (SENSITIVITY)", "O"),),
    config=MeasuredGainConfig,
    tables=(GAINS, NOT_CUT),
    run=run,
    figures=FIGURES,
    needs=needs,
    memory=lambda settings, facts: 3 * 4 * int(facts.get("n_parameters") or 0),  # noqa: ARG005 - every analysis is asked alike
)

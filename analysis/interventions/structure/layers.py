"""Whole sublayers and blocks: nothing is added, or what came in goes on, where they are gone.

Orders: the loss that each costs alone (METHODS A18); for blocks block influence 1 - mean cos(x_in, x_out) (ShortGPT); importance I_l =
mean over examples of |dL/dgate_l|, a gate of 1 on what the block adds, dL/dgate_l = sum_t (x_out - x_in)(t) . dL/dx_out(t) (METHODS C21,
there of heads; not normalised by layer); or depth, the last one first, which is the loss of reading the answer early through the final
norm and head (logit lens, early exit).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.interventions.activations.base import Setting
from analysis.interventions.structure.base import Ablation, Plan, StructureMethod, ablated, stream_of, task_of
from analysis.interventions.structure.finding import block_plan, sublayer_plan
from analysis.interventions.structure.heads import MICHEL, slopes_by_example
from analysis.spec import IncompatibleSubject, Source

if TYPE_CHECKING:
    from torch import Tensor, nn

ALONE = Source("Structured ablation: layers by the loss that each costs alone", "this project's operational definition", "O")
SHORTGPT = Source("ShortGPT: Layers in Large Language Models are More Redundant Than You Expect", "Men et al. 2024, arXiv 2403.03853", "K")
LENS = Source("Interpreting GPT: the logit lens", "nostalgebraist 2020", "K")
GATED = Source("Importance of heads, with the gate on what a whole block adds", "this project's operational definition", "O")
BATCH_TOKENS = 1024


@dataclass(frozen=True)
class AttentionSublayers(StructureMethod):
    """Attention, not added where it is gone."""

    name = "attention-sublayers"
    words = "Whole attention sublayers, by the loss each costs alone"
    origin = (ALONE,)
    part = "attention"

    def plan(self, model: nn.Module, example: Any) -> Plan:
        """Those whose sum with the stream is seen."""
        plan = sublayer_plan(model, example, self.part)
        if not plan.n:
            raise IncompatibleSubject(f"{self.name} must be given a model with {self.part} on a residual stream, got none; choose another.")
        return plan

    def scores(self, setting: Setting, plan: Plan) -> np.ndarray:
        """Increase of the calibration loss with each one gone alone."""
        return setting.once((self.part, "alone"), lambda: losses_alone(setting, plan, task_of(setting, self.name)))


@dataclass(frozen=True)
class FfnSublayers(AttentionSublayers):
    """FFNs, not added where they are gone."""

    name = "ffn-sublayers"
    words = "Whole FFN sublayers, by the loss each costs alone"
    part = "ffn"


@dataclass(frozen=True)
class Blocks(StructureMethod):
    """Blocks, the identity where they are gone, least influence first."""

    name = "blocks"
    words = "Whole blocks, by how little they turn the stream"
    origin = (SHORTGPT,)

    def plan(self, model: nn.Module, example: Any) -> Plan:
        """Those that return what they are given in form."""
        plan = block_plan(model, example)
        if not plan.n:
            raise IncompatibleSubject(
                f"{self.name} must be given a model with repeated blocks that keep the stream's form, got none; choose another."
            )
        return plan

    def scores(self, setting: Setting, plan: Plan) -> np.ndarray:
        """Block influence."""
        return setting.once("block influence", lambda: influences(setting, plan))


@dataclass(frozen=True)
class BlocksByLoss(Blocks):
    """Blocks, the one first that costs least alone."""

    name = "blocks-loss"
    words = "Whole blocks, by the loss each costs alone"
    origin = (ALONE,)

    def scores(self, setting: Setting, plan: Plan) -> np.ndarray:
        """Increase of the calibration loss with each one gone alone."""
        return setting.once(("block", "alone"), lambda: losses_alone(setting, plan, task_of(setting, self.name)))


@dataclass(frozen=True)
class BlocksByGate(Blocks):
    """Blocks, the one first whose gate the loss feels least (Michel's importance of heads, for blocks)."""

    name = "blocks-michel"
    words = "Whole blocks of least importance to the loss"
    origin = (GATED, MICHEL)

    def scores(self, setting: Setting, plan: Plan) -> np.ndarray:
        """I_l."""
        return setting.once("block importance", lambda: gate_importances(setting, plan, task_of(setting, self.name)))


@dataclass(frozen=True)
class EarlyExit(Blocks):
    """Blocks from the end: the loss by depth."""

    name = "early-exit"
    words = "Blocks from the end: the answer read early through the final norm and head"
    origin = (LENS,)
    calibrated = False

    def scores(self, setting: Setting, plan: Plan) -> np.ndarray:
        """Depth, the last one lowest."""
        del setting
        return -np.arange(plan.n, dtype=np.float64)


def losses_alone(setting: Setting, plan: Plan, task: Any) -> np.ndarray:
    """Mean loss per scored position without each unit, minus that of the dense model [units], in the unit of the loss."""
    ablation = Ablation(plan)
    size = task.batch_size(BATCH_TOKENS)

    def loss() -> float:
        found = task.losses(setting.model, size)
        if found.n_endless.any():
            return np.finfo(np.float64).max
        return float(found.total.sum() / found.n.sum())

    with ablated(setting.model, plan, ablation):
        dense, found = loss(), np.zeros(plan.n)
        for unit in range(plan.n):
            ablation.gone[:] = False
            ablation.gone[unit] = True
            found[unit] = loss() - dense
    return found


def gate_importances(setting: Setting, plan: Plan, task: Any) -> np.ndarray:
    """Mean over examples of |dL/dgate| [units], in the unit of the loss."""
    import torch

    from analysis.capture.running import hooked

    gates: dict[str, list[Tensor]] = {}
    totals, n = np.zeros(plan.n), 0

    def hook(block: str) -> Any:
        def gated(module: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], output: Any) -> Any:
            del module
            made = output[0] if isinstance(output, tuple) else output
            gate = torch.ones((), device=made.device, dtype=made.dtype, requires_grad=True)
            gates.setdefault(block, []).append(gate)
            same = made + (gate - 1) * (made - stream_of(args, kwargs))  # its value, bit for bit
            return (same, *output[1:]) if isinstance(output, tuple) else same

        return gated

    spots = {spot.block: spot.first for spot in plan.spots if spot.block is not None}
    with hooked([setting.model.get_submodule(block).register_forward_hook(hook(block), with_kwargs=True) for block in spots]):
        for slopes in slopes_by_example(setting, task, gates):
            n += 1
            for block, parts in slopes.items():
                totals[spots[block]] += abs(sum(float(part) for part in parts))
    return totals / n


def cosine(given: Tensor, made: Tensor) -> Tensor:
    """cos of each row [rows] of two [rows, width]; rows of zeros have 1 with themselves and 0 with others."""
    import torch

    lengths = given.double().norm(dim=-1) * made.double().norm(dim=-1)
    dots = (given.double() * made.double()).sum(-1)
    same = (given == made).all(-1)
    return torch.where(lengths > 0, dots / lengths.clamp_min(1e-300), same.double())


def influences(setting: Setting, plan: Plan) -> np.ndarray:
    """1 - mean cos between what each block is given and what it returns, over real tokens [units]; 0 for the identity, at most 2."""
    from analysis.capture import Frame
    from analysis.capture.running import hooked, observable, run

    sums, counts = np.zeros(plan.n), np.zeros(plan.n)
    kept: list[Any] = [None, None]

    def hook(unit: int) -> Any:
        def look(module: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], output: Any) -> None:
            del module
            cos = cosine(stream_of(args, kwargs), output[0] if isinstance(output, tuple) else output)
            rows = next((mask for mask in kept if mask is not None and mask.shape == cos.shape), None)
            cos = cos if rows is None else cos[rows.to(cos.device)]
            sums[unit] += float(cos.sum())
            counts[unit] += cos.numel()

        return look

    handles = [
        setting.model.get_submodule(spot.block).register_forward_hook(hook(spot.first), with_kwargs=True)
        for spot in plan.spots
        if spot.block is not None
    ]
    with hooked(handles):
        for batch in setting.batches:
            frame = Frame.of(batch)
            kept[:] = [frame.mask, frame.decoder_mask]
            with observable(setting.model):
                run(setting.model, batch)
    return 1.0 - sums / counts.clip(1)

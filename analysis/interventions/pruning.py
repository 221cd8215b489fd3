"""Pruning weights, one shot, without any training: a method's scores, a structure, a group that competes, and shares per matrix.

1. On entry: the scope, a saved copy, each matrix' scores and what `selecting` prepares from them, once for all levels.
2. At a level: each matrix is the dense one where kept and 0 elsewhere; or what the method makes of it, where it updates weights.
3. What was achieved is counted in the live model.

Our curves are one-shot, on the dense model's inputs; values published after fine-tuning are not comparable.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from analysis.interventions.cuts import Cuts
from analysis.interventions.holding import SavedWeights, saved
from analysis.interventions.ordering import count_zeros, multiply
from analysis.interventions.scope import Group, Member, Scope, weight_scope
from analysis.interventions.scoring import Scores, check_finite
from analysis.interventions.selecting import ScopeGroup, Selection, Variant, counts_otherwise, select
from analysis.interventions.spec import (
    Applied,
    Calibration,
    Cost,
    Held,
    Intervention,
    InterventionKind,
    MatrixCount,
    Need,
    Target,
    check_level,
)
from analysis.interventions.structures import UNSTRUCTURED, Structure, removed_of
from analysis.interventions.weights.magnitude import Magnitude
from analysis.interventions.weights.method import Asked, Matrix, Method, Ratio, SharesAt
from analysis.spec import Source, UserError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class WeightPruning(Intervention):
    """Remove the weights of a scope that a method scores lowest."""

    target: ClassVar[Target] = "weights"

    method: Method = field(default_factory=Magnitude)
    structure: Structure = UNSTRUCTURED
    scope: ScopeGroup = "global"
    """Among which weights the lowest are found; N of M competes inside its groups, whatever is given."""
    ratio: Ratio | None = None
    """Shares per matrix (scope per_matrix or per_row); None: the level itself everywhere."""
    seed: int = 0
    variant: Variant = "text"
    include: tuple[Group, ...] = ()
    only: str = ""
    """Pattern of the names that are in scope."""
    reread: bool = False
    """Read the dense weights from the model's files again instead of keeping a copy."""

    def __post_init__(self) -> None:
        if self.ratio is not None and (self.scope == "global" or self.structure.pattern is not None):
            got = "global" if self.scope == "global" else self.structure.slug
            raise UserError(f"ratio {self.ratio.slug} must go with scope per_matrix or per_row, got {got}, which has shares of its own.")
        if self.scope == "global" and self.structure.m is None and not self.method.comparable:
            raise UserError(f"method {self.method.slug} must go with scope per_matrix or per_row, got global; its scores do not compare.")
        if self.scope == "global" and self.structure.m is None and self.method.updates:
            raise UserError(f"method {self.method.slug} must go with scope per_matrix, got global; it works on each matrix by itself.")
        if self.method.updates and self.structure.m is None and self.scope == "per_row" and self.method.own_group != "per_row":
            raise UserError(
                f"method {self.method.slug} must go with scope per_matrix, got per_row; its rows lose different numbers of weights."
            )

    @property
    def group(self) -> str:
        """What competes, as stored with a curve: ``global``, ``per_matrix``, ``per_row`` or ``group`` (of M)."""
        if self.structure.m is not None:
            return "group"
        return self.method.own_group if self.method.updates else self.scope

    @property
    def counts_as(self) -> Variant:
        """``code`` only where that makes a difference: else two names would stand for the same numbers."""
        differs = (
            self.method.has_code_variant and self.structure.is_unstructured
            if self.method.updates
            else counts_otherwise(self.structure, self.scope)
        )
        return self.variant if differs else "text"

    @property
    def slug(self) -> str:
        """See `Intervention`."""
        parts = [self.method.name, self.structure.slug, self.group, *([self.ratio.slug] if self.ratio else [])]
        parts += [self.counts_as] * (self.counts_as != "text") + [f"+{group}" for group in self.include] + [self.only] * bool(self.only)
        return "/".join(parts)

    @property
    def title(self) -> str:
        """See `Intervention`."""
        words = {"global": "over the whole scope", "per_matrix": "in each matrix", "per_row": "in each row", "group": "in each group"}
        ratio = f", {self.ratio.title} shares" if self.ratio else ""
        return f"{self.method.title}, {self.structure.slug}, {words[self.group]}{ratio}"

    @property
    def kind(self) -> InterventionKind:
        """N of M has no more levels than patterns, a fixed one a single one; with shares per matrix there are levels in between."""
        if self.structure.levels is None or self.ratio is not None:
            return "curve"
        return "patterns" if self.structure.pattern is None else "point"

    @property
    def needs(self) -> frozenset[Need]:
        """Of the method and of the ratio."""
        return self.method.needs | (self.ratio.needs if self.ratio else frozenset())

    @property
    def nested(self) -> bool:
        """As method and ratio are."""
        return self.method.nested and (self.ratio is None or self.ratio.nested)

    @property
    def sources(self) -> tuple[Source, ...]:
        """Of the method and of the ratio."""
        return (*self.method.sources, *(self.ratio.sources if self.ratio else ()))

    @contextmanager
    def on(self, subject: Any, calibration: Calibration | None = None) -> Iterator[HeldPruning]:
        """See `Intervention`."""
        if self.needs and calibration is None:
            raise UserError(f"{self.title} must be given a calibration with {', '.join(sorted(self.needs))}, got none; measure one first.")
        scope = weight_scope(subject.model, include=self.include, only=self.only)
        readers = {info.name: info.read for info in subject.tensors()} if self.reread else None
        with saved(subject.model, scope.members, readers) as weights:
            yield HeldPruning(self, scope, weights, calibration)


class HeldPruning(Held):
    """A model whose weights are being pruned."""

    def __init__(self, pruning: WeightPruning, scope: Scope, weights: SavedWeights, calibration: Calibration | None) -> None:
        self.pruning, self.scope, self._weights = pruning, scope, weights
        self._matrices: list[Matrix] = []
        self._number: dict[tuple[str, int], int] = {}
        self._left_dense: dict[str, str] = {}  # by matrix: why
        for member in scope.members:
            check_finite(member)
            for index in range(member.matrix_shape[0]):
                self._add(member, index, calibration)
        if not self._matrices:
            raise UserError(f"{pruning.title} must have data for at least one matrix, got none; calibrate on more text.")
        self._scores = Scores(pruning.method, self._matrices)
        shapes = [(matrix.d_out, matrix.d_in) for matrix in self._matrices]
        self._selection: Selection | None = None
        if not pruning.method.updates:
            self._selection = select(self._scores, shapes, pruning.structure, pruning.scope, pruning.variant)
        self._shares: SharesAt | None = pruning.ratio.prepare(self._matrices, pruning.method) if pruning.ratio else None
        self.levels = None if pruning.kind == "curve" else pruning.structure.levels
        self.facts = self._facts()

    def at(self, level: float) -> Applied:
        """See `Held`."""
        levels = self._levels(check_level(level))
        counts = []
        for member in self.scope.members:
            live = self._weights.live(member)
            self._write(member, live, levels)
            counts.append(MatrixCount(member.name, member.n, count_zeros(live), self._weights.n_zero[member.name]))
        value, unit = self._native(level, levels)
        achieved = sum(count.n_zero for count in counts) / self.scope.n
        return Applied(level, achieved, self.scope.denominator, value, unit, tuple(counts), self._notes)

    def cost(self, level: float) -> Cost:
        """See `Held`. Where a matrix had zeros before, and they are not what goes first, it has at least as many as said."""
        levels = self._levels(check_level(level))
        removed = dict.fromkeys((member.name for member in self.scope.members), 0)
        for (name, _), i in self._number.items():
            removed[name] += self._removed(levels)[i]
        zeros = self._weights.n_zero
        counts = [MatrixCount(m.name, m.n, max(removed[m.name], zeros[m.name]), zeros[m.name]) for m in self.scope.members]
        return Cost(level, tuple(counts), self.pruning.structure.slug)

    def weights(self, name: str, level: float) -> Tensor:
        """A new tensor: the parameter of that name as it is at a level; the live model is not touched."""
        member = self.scope.only([name]).members[0]
        made = self._weights.dense(member).clone()
        self._write(member, made, self._levels(check_level(level)))
        return made

    def _write(self, member: Member, target: Tensor, levels: Sequence[float]) -> None:
        """Write a member as it is at these levels into a tensor of its shape, dtype and device."""
        dense, there = self._weights.dense(member), member.matrix(target)
        if not any(levels[i] > 0 for i in self._of(member)):
            target.copy_(dense)
            return
        values = member.matrix(dense)
        for index in range(len(values)):
            i = self._number.get((member.name, index))
            if i is None or levels[i] <= 0:
                there[index].copy_(values[index])
            else:
                self._prune(i, levels, values[index], there[index])
        if there.data_ptr() != target.data_ptr():  # a copy, since no view is [n, d_out, d_in]
            target.copy_(member.back(there))

    def _prune(self, i: int, levels: Sequence[float], dense: Tensor, out: Tensor) -> None:
        """One matrix. A product with the mask; of magnitudes, hard shrinkage, which needs no mask."""
        import torch

        is_exact = dense.dtype != torch.float64  # thresholds are of scores in float32, which double precision may lie just above
        if is_exact and isinstance(self._selection, Cuts) and type(self.pruning.method) is Magnitude:
            cut = self._selection.cut(i, levels)
            if cut.all_equal and cut.removed:
                torch.ops.aten.hardshrink.out(dense, cut.at, out=out)
                return
        if self._selection is not None:
            multiply(dense, self._selection.keep(i, levels), out)
            return
        matrix, method = self._matrices[i], self.pruning.method
        asked = Asked(levels[i], self.pruning.structure, matrix.seed, self.pruning.variant)
        out.copy_(method.prune(matrix.dense(), matrix.inputs, asked))

    def _of(self, member: Member) -> list[int]:
        """Numbers of a member's matrices."""
        numbers = (self._number.get((member.name, index)) for index in range(member.matrix_shape[0]))
        return [i for i in numbers if i is not None]

    def _levels(self, level: float) -> Sequence[float]:
        """The level of each matrix. Raises `UserError` for a level that no pattern has."""
        if self.levels is not None and not any(abs(level - known) < 1e-9 for known in self.levels):
            known = f"{', '.join(f'{one:g}' for one in self.levels[:-1])} or {self.levels[-1]:g}"
            raise UserError(f"a level of {self.pruning.title} must be {known}, got {level:g}; there are no patterns in between.")
        if self._shares is None or level == 0:
            return [level] * len(self._matrices)
        return [float(share) for share in self._shares(level)]

    def _removed(self, levels: Sequence[float]) -> list[int]:
        if self._selection is not None:
            return self._selection.removed(levels)
        return [removed_of(matrix.n, level) for matrix, level in zip(self._matrices, levels)]

    def _native(self, level: float, levels: Sequence[float]) -> tuple[float | None, str | None]:
        pattern = self.pruning.structure.pattern_at(level)
        if pattern is not None:
            return float(pattern[0] if level > 0 else pattern[1]), f"kept of {pattern[1]}"
        threshold = self._selection.threshold(levels) if isinstance(self._selection, Cuts) else None
        return threshold, None if threshold is None else f"largest {self.pruning.method.unit} removed"

    def _add(self, member: Member, index: int, calibration: Calibration | None) -> None:
        name = f"{member.name}[{index}]" if member.matrix_shape[0] > 1 else member.name
        inputs = None if calibration is None else calibration.of(member.name, index)
        if self.pruning.needs and (inputs is None or not inputs.has(self.pruning.needs)):
            known = {} if calibration is None else calibration.missing
            self._left_dense[name] = known.get((member.name, index), "nothing was measured of it.")
            return

        def dense() -> Tensor:
            return member.matrix(self._weights.dense(member))[index].float()

        self._number[member.name, index] = len(self._matrices)
        seed = zlib.crc32(f"{self.pruning.seed} {name}".encode())
        self._matrices.append(Matrix(name, member.stored_shape, member.layer, dense, inputs, seed, member.role))

    @property
    def _notes(self) -> tuple[str, ...]:
        notes = []
        for why in dict.fromkeys(self._left_dense.values()):
            names = [name for name, reason in self._left_dense.items() if reason == why]
            notes.append(f"stay dense: {names[0]}{f' and {len(names) - 1} like it' if len(names) > 1 else ''}: {why}")
        m = self.pruning.structure.m
        left_over = 0 if m is None else sum(matrix.d_out * (matrix.d_in % m) for matrix in self._matrices)
        if left_over:
            notes.append(f"{left_over:,} weights lie in columns that fill no group of {m} and stay dense.")
        return tuple(notes)

    def _facts(self) -> dict[str, Any]:
        pruning = self.pruning
        return {
            "method": pruning.method.name,
            "evidence": pruning.method.evidence,
            "structure": pruning.structure.slug,
            "group": pruning.group,
            "ratio": pruning.ratio.slug if pruning.ratio else "uniform" if pruning.group != "global" else "global",
            "variant": pruning.counts_as,
            "seed": pruning.seed,
            "scope": self.scope.rule,
            "denominator": self.scope.denominator,
            "n_weights": self.scope.n,
            "n_already_zero": sum(self._weights.n_zero.values()),
            "skipped": [{"tensor": s.name, "n": s.n, "reason": s.reason} for s in self.scope.skipped],
            "left_dense": list(self._left_dense),
        }

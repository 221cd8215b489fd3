"""DSnoT, Dynamic Sparse no Training: swap weights of a given mask so that a row's expected output comes closer to the dense one.

1. c_rj = W_rj s_j, with s_j the inputs' sum over all tokens by the number of sequences: what weight j adds to row r's output.
2. eps_r = sum of c over the pruned weights of the row: the output that is expected to be missing.
3. While |eps_r| > 0.1, at most 50 cycles, one swap a row:
   grow the pruned weight with the largest c / variance_j (eps > 0) or the smallest (eps < 0);
   prune, of the kept weights whose c has the sign opposite to eps, the one with the smallest Wanda score |W_rj| |x_j|;
   eps_r += c_pruned - c_grown.
   A weight is swapped once at most. A row without a candidate of the sign it needs is done.
4. N of M: what is grown replaces the lowest Wanda score of its own group, whatever its sign, and a row is done
   before a swap that would turn the sign of its first eps. (Without a pattern that rule is off by default, as in the source.)

Source: Zhang et al., ICLR 2024; METHODS A9, from the official code. Row density never changes. The 0.1 is in units of s_j:
it depends on the length of the sequences, as in the source. The method is greedy: a swap may enlarge |eps_r|.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from analysis.interventions.matrix_inputs import measured
from analysis.interventions.spec import Need
from analysis.interventions.structures import keep_mask
from analysis.interventions.weights.magnitude import Magnitude
from analysis.interventions.weights.method import Asked, Method
from analysis.interventions.weights.sparsegpt import SparseGPT
from analysis.interventions.weights.wanda import Wanda
from analysis.spec import Evidence, Source

if TYPE_CHECKING:
    from torch import Tensor

    from analysis.interventions.calibration import MatrixInputs
    from analysis.interventions.selecting import ScopeGroup

THRESHOLD = 0.1
CYCLES = 50
POWER = 1.0
"""Of the variance that the growing criterion is divided by."""


@dataclass(frozen=True)
class Swapped:
    """A mask after the swaps, and what they did."""

    kept: Tensor
    """bool [d_out, d_in]."""
    before: Tensor
    """float64 [d_out]: eps of each row, in units of the output summed over a sequence."""
    after: Tensor
    """float64 [d_out]."""
    swaps: Tensor
    """int64 [d_out]."""

    def facts(self, start: Tensor) -> dict[str, float]:
        """Mean |eps| before and after, swaps per row, and overlap (intersection over union) with the mask it started from."""
        union = int((self.kept | start).sum())
        return {
            "error_before": float(self.before.abs().mean()),
            "error_after": float(self.after.abs().mean()),
            "swaps_per_row": float(self.swaps.double().mean()),
            "overlap": int((self.kept & start).sum()) / union if union else 1.0,
        }


def dsnot(
    w: Tensor,
    kept: Tensor,
    sums: Tensor,
    variance: Tensor,
    norms: Tensor,
    pattern: tuple[int, int] | None = None,
    *,
    threshold: float = THRESHOLD,
    cycles: int = CYCLES,
    power: float = POWER,
    same_sign: bool | None = None,
) -> Swapped:
    """The mask after the swaps. w [d_out, d_in], kept bool of its shape, sums (per sequence), variance and norms [d_in].

    ``pattern`` (N, M) keeps swaps inside groups of M columns. ``same_sign`` is the rule of step 4; None: on with a pattern only.
    """
    import torch

    c, wanda = w.double() * sums.double(), w.double().abs() * norms.double()
    criterion = c / variance.double().clamp(min=torch.finfo(torch.float64).eps) ** power
    # By the sign of eps: what to grow, and without groups what to prune, best first. A row takes from the front of these, once each.
    grow = {sign: _front(-sign * criterion, ~kept & (sign * c > 0), cycles) for sign in (1, -1)}
    prune = {sign: _front(wanda, kept & (sign * c < 0), cycles) for sign in (1, -1)} if pattern is None else {}
    error = torch.where(kept, 0.0, c).sum(1)
    before, first, rows = error.clone(), error.sign(), torch.arange(len(w), device=w.device)
    made, free, swaps = kept.clone(), kept.clone(), torch.zeros(len(w), dtype=torch.int64, device=w.device)
    taken = {sign: torch.zeros_like(swaps) for sign in (1, -1)}
    for _ in range(cycles):
        rows = rows[error[rows].abs() > threshold]
        positive = error[rows] > 0
        grown, can_grow = _next(grow, taken, rows, positive)
        if pattern is None:
            pruned, can_go = _next(prune, taken, rows, positive)
        else:
            pruned, can_go = _lowest_of_group(wanda, free, rows, grown, pattern[1])
        after = error[rows] + c[rows, pruned] - c[rows, grown]
        is_strict = pattern is not None if same_sign is None else same_sign
        good = can_grow & can_go & ((after.sign() == first[rows]) if is_strict else True)
        rows, grown, pruned, positive = rows[good], grown[good], pruned[good], positive[good]
        if not len(rows):
            break
        made[rows, grown], made[rows, pruned], free[rows, pruned] = True, False, False
        error[rows] = after[good]
        swaps[rows] += 1
        taken[1][rows[positive]] += 1
        taken[-1][rows[~positive]] += 1
    return Swapped(made, before, error, swaps)


def _front(values: Tensor, where: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Columns of the k smallest values of each row where allowed, ascending, and how many of them are allowed: [rows, k], [rows]."""
    import torch

    k = min(k, values.shape[1])
    columns = torch.where(where, values, torch.inf).topk(k, dim=1, largest=False, sorted=True).indices
    return columns, where.sum(1).clamp(max=k)


def _next(lists: dict[int, tuple[Tensor, Tensor]], taken: dict[int, Tensor], rows: Tensor, positive: Tensor) -> tuple[Tensor, Tensor]:
    """The next column in the list of each row's sign, and whether there is one."""
    import torch

    (up, up_n), (down, down_n) = lists[1], lists[-1]
    place = torch.where(positive, taken[1][rows], taken[-1][rows])
    at = place.clamp(max=up.shape[1] - 1)
    return torch.where(positive, up[rows, at], down[rows, at]), place < torch.where(positive, up_n[rows], down_n[rows])


def _lowest_of_group(wanda: Tensor, free: Tensor, rows: Tensor, grown: Tensor, m: int) -> tuple[Tensor, Tensor]:
    """The kept column with the lowest score in the group of each row's grown one, and whether there is one that was not swapped."""
    import torch

    start = grown // m * m
    group = start[:, None] + torch.arange(m, device=grown.device)
    inside = group < wanda.shape[1]
    group = group.clamp(max=wanda.shape[1] - 1)
    where = free[rows[:, None], group] & inside
    place = torch.where(where, wanda[rows[:, None], group], torch.inf).argmin(1)
    return group.gather(1, place[:, None]).squeeze(1), where.any(1)


@dataclass(frozen=True)
class DSnoT(Method):
    """Swaps on top of the mask that each row has from another method's scores; weights that stay are not changed.

    SparseGPT lends its scores of the dense weights only: nothing is updated.
    """

    start: Method = field(default_factory=Wanda)

    slug: ClassVar[str] = "dsnot"
    title: ClassVar[str] = "DSnoT on Wanda (dense inputs)"
    sources: ClassVar[tuple[Source, ...]] = (
        Source("Dynamic Sparse No Training: Training-Free Fine-tuning for Sparse LLMs", "Zhang et al., ICLR 2024, arXiv 2310.08915", "C"),
    )
    evidence: ClassVar[Evidence] = "C"
    nested: ClassVar[bool] = False
    updates: ClassVar[bool] = True
    comparable: ClassVar[bool] = False
    own_group: ClassVar[ScopeGroup] = "per_row"

    @property
    def needs(self) -> frozenset[Need]:  # pyright: ignore[reportIncompatibleVariableOverride] - depends on where it starts
        """Inputs, and what the first mask needs."""
        own: frozenset[Need] = frozenset({"inputs"})
        return own | self.start.needs

    def prune(self, w: Tensor, inputs: MatrixInputs | None, asked: Asked) -> Tensor:
        """Raises `UserError` for tiles, rows and columns."""
        pattern, inputs = asked.pattern(self), measured(inputs)
        kept = keep_mask(self.start.score(w, inputs, asked.seed), asked.level, asked.structure, "per_row")
        norms = inputs.norms_per_sequence()
        return w * dsnot(w, kept, inputs.sums_per_sequence(), inputs.variance(), norms, pattern).kept


@dataclass(frozen=True)
class DSnoTOnMagnitude(DSnoT):
    """Starts from the largest |w| of each row."""

    start: Method = field(default_factory=Magnitude)

    slug: ClassVar[str] = "dsnot-magnitude"
    title: ClassVar[str] = "DSnoT on magnitude (dense inputs)"


@dataclass(frozen=True)
class DSnoTOnSparseGPT(DSnoT):
    """Starts from SparseGPT's scores of the dense weights."""

    start: Method = field(default_factory=SparseGPT)

    slug: ClassVar[str] = "dsnot-sparsegpt"
    title: ClassVar[str] = "DSnoT on SparseGPT's scores (dense inputs)"

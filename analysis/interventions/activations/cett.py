"""CETT: thresholds on what neurons add to the output, such that every layer makes the same relative error.

    n_tj = |a_tj| |W_down[:, j]|_2;  kept are n > theta;  D_t = {j: n_tj <= theta}
    CETT(theta) = mean_t | sum_{j in D_t} a_tj W_down[:, j] |_2 / | FFN(x_t) |_2

1. Of each layer, CETT and the share removed at 17 quantiles of n, over a sample of tokens of the calibration split.
2. A level is the mean share removed over layers; its one CETT for all layers is found by bisection, its thresholds by interpolation.

CETT is taken for monotone in theta (running maximum). PPL-p % sparsity is the drop point of this curve at a tolerance of ln(1 + p/100)
nats: eps=0.00995 for 1 %. The published search is for the one CETT, over equally spaced thresholds, instead. Source: METHODS B3.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from analysis.interventions.activations.base import ActivationMethod, Changed, Rule, Seen, Setting, last_matrix, masked
from analysis.interventions.activations.contextual import column_norms
from analysis.interventions.activations.observing import sampled_rows
from analysis.spec import Source

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn

    from analysis.capture import Site

SOURCE = Source("Sparsing Law: Towards Large Language Models with Greater Activation Sparsity", "Luo et al. 2024, arXiv 2411.02335", "C")
ROWS, STEPS = 64, 16
"""Tokens a layer is measured on, and steps of the share removed."""


def cett(a: Tensor, matrix: Tensor, theta: float, output: Tensor) -> float:
    """a [T, f], matrix [d, f], output [T, d] of the whole FFN; tokens whose output is 0 are left out; 0 to about 1."""
    dropped = a * (a.abs() * matrix.norm(dim=0) <= theta)
    size = output.norm(dim=-1)
    real = size > 0
    return float(((dropped[real] @ matrix.T).norm(dim=-1) / size[real]).mean()) if bool(real.any()) else 0.0


@dataclass(frozen=True)
class Course:
    """Of one layer, by rising threshold."""

    theta: np.ndarray
    share: np.ndarray
    cett: np.ndarray

    def share_at(self, error: float) -> float:
        """Removed where CETT is at most ``error``."""
        import numpy as np

        return float(np.interp(error, self.cett, self.share))

    def theta_at(self, error: float) -> float:
        """The threshold there; infinite where everything may go."""
        import numpy as np

        return math.inf if error >= self.cett[-1] else float(np.interp(error, self.cett, self.theta))


def course(a: Tensor, matrix: Tensor, bias: Tensor | None) -> Course:
    """Step 1 of one layer."""
    import numpy as np

    output = a @ matrix.T if bias is None else a @ matrix.T + bias
    n = (a.abs() * matrix.norm(dim=0)).flatten().sort().values
    at = [max(0, round(step / STEPS * len(n)) - 1) for step in range(1, STEPS + 1)]
    theta = np.array([0.0, *n[at].tolist()])
    share = np.array([float((n <= one).float().mean()) for one in theta])
    errors = np.array([cett(a, matrix, one, output) for one in theta])
    return Course(theta, share, np.maximum.accumulate(errors))


def error_for(courses: Mapping[str, Course], level: float) -> float:
    """The one CETT at which the mean share removed is ``level``; infinite for level 1."""
    if level >= 1.0:
        return math.inf
    low, high = 0.0, max(float(one.cett[-1]) for one in courses.values())
    for _ in range(50):
        middle = (low + high) / 2
        is_low = sum(one.share_at(middle) for one in courses.values()) / len(courses) < level
        low, high = (middle, high) if is_low else (low, middle)
    return high


class AddsLittle(Rule):
    """Keeps n > theta."""

    def __init__(self, norms: Mapping[str, Tensor], thetas: Mapping[str, float], error: float) -> None:
        self._norms, self._thetas = norms, thetas
        self.native_value, self.native_unit = (error, "CETT") if math.isfinite(error) else (None, None)

    def change(self, seen: Seen) -> Changed:
        """Zero what adds little; at a site that the calibration never reached nothing."""
        theta = self._thetas.get(seen.site.name, -1.0)
        return masked(seen.values, seen.values.float().abs() * self._norms[seen.site.name] > theta)


@dataclass(frozen=True)
class Cett(ActivationMethod):
    """The same relative error in every layer."""

    name = "cett"
    words = "CETT: FFN neurons that add little, by the error they make"
    origin = (SOURCE,)  # METHODS B3

    def overhead(self, model: nn.Module, site: Site) -> float:
        """A product and a comparison: 2 an entry."""
        return 2 * super().overhead(model, site)

    def prepare(self, setting: Setting) -> Callable[[float], Rule]:
        """Courses by layer."""
        norms = column_norms(setting)

        def made() -> dict[str, Course]:
            of = {site.name: site for site in setting.sites}
            rows = sampled_rows(setting, ROWS)
            return {name: course(a, last_matrix(setting.model, of[name]).float(), _bias(setting, of[name])) for name, a in rows.items()}

        courses = setting.once(("cett", tuple(site.name for site in setting.sites)), made)

        def rule(level: float) -> Rule:
            error = error_for(courses, level)
            return AddsLittle(norms, {name: one.theta_at(error) for name, one in courses.items()}, error)

        return rule


def _bias(setting: Setting, site: Site) -> Tensor | None:
    bias = getattr(setting.model.get_submodule(site.module), "bias", None)
    return None if bias is None or site.expert is not None else bias.detach().float()

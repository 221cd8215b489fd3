"""One look at a model on a tiny batch: its sites, what each matrix reads, and the norms in between. No table of architectures.

1. Find the sites; keep those that are neurons, the matrices that feed them, and the unembedding.
2. Run once more: keep a few of the rows that each of these reads, and input and output of every module that might be a norm.
3. A module is a norm where one of the usual formulas reproduces its output from its input; a matrix reads through it where
   what it reads is proportional to a row of that output.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from analysis.capture.site import Site
from analysis.neurons.observing import neurons_among

if TYPE_CHECKING:
    from torch import Tensor, nn

ROWS = 64
"""Rows of what a matrix reads that are kept."""
NORM_ROWS = 4096
SAME_ROW = 1e-3
"""Distance up to which two rows at length 1 are taken for the same: room for a factor applied in 16 bits."""
FITS = 0.02
"""Distance up to which a formula's rows at length 1 are taken for a norm's: room for 16-bit values."""


@dataclass(frozen=True)
class Norm:
    """A normalisation found by its numbers: gain * (x - mean) / scale + bias, or the same without the mean."""

    path: str
    gain: Tensor
    """[d] in float32; where the module adds one to its weight, with that one."""
    centred: bool
    x: Tensor = field(repr=False)
    """Rows it read, [rows, d]."""
    y: Tensor = field(repr=False)
    """Rows it gave."""

    def normalised(self, rows: Tensor) -> Tensor:
        """Rows [n, d] centred where the norm centres, at root mean square 1, without gain and bias; zero rows stay zero."""
        import torch

        middle = self.middle(rows)
        rms = middle.square().mean(1, keepdim=True).sqrt()
        return middle / torch.where(rms > 0, rms, 1.0)

    def middle(self, rows: Tensor) -> Tensor:
        """Rows less their mean where the norm centres."""
        return rows - rows.mean(1, keepdim=True) if self.centred else rows


@dataclass
class Look:
    """What one look found."""

    batch: Any
    sites: list[Site]
    """The neuron sites, in order of first execution."""
    readers: dict[tuple[str, int | None], Site]
    """Every matrix by its parameter (and expert): the site that it reads at."""
    read: dict[str, Tensor]
    """Rows that a site's matrix reads, by the site's name."""
    ups: dict[str, Tensor]
    """Of gated units the factor that is not activated."""
    written: dict[str, Tensor]
    """What fused matrices gave."""
    norms: list[Norm]

    def norm_before(self, site: Site) -> Norm | None:
        """The norm whose output the site's matrix reads, whole or in part, up to a factor; None where there is none."""
        rows = self.read.get(site.name)
        rows = None if rows is None else rows[rows.abs().amax(1) > 0][:1]
        if rows is None or not len(rows):
            return None
        fitting = [norm for norm in self.norms if norm.y.shape[1] == rows.shape[1]]
        distances = [float(_distance(norm.y, rows).min()) for norm in fitting]
        # The nearest; of equally near ones the last that ran.
        best = min(range(len(fitting)), key=lambda i: (distances[i], -i), default=None)
        return fitting[best] if best is not None and distances[best] <= SAME_ROW else None

    def reader(self, name: str, expert: int | None) -> Site | None:
        """The site at which a parameter reads; None where it was not seen."""
        return self.readers.get((name, expert)) or self.readers.get((name, None))


def _distance(rows: Tensor, others: Tensor) -> Tensor:
    """Distance [rows] of rows [rows, d] from others (as many, or one) after both are brought to length 1."""
    import torch

    first, second = (torch.nn.functional.normalize(t.double(), dim=1) for t in (rows, others))
    return (first - second).norm(dim=1)


def look_at(subject: Any, more: Sequence[str] = ()) -> Look:
    """Look at a subject's model; ``more`` names parameters beside those of the neurons whose reading is wanted."""
    from collections.abc import Mapping

    from analysis.capture import Frame, capture, find_sites

    batch, model = subject.probe_batch(), subject.model
    found = find_sites(model, batch, names=subject.hook_names())
    given = subject.data is not None and subject.data.token_ids is not None
    sites = neurons_among(subject, found, is_text="input_ids" in batch if isinstance(batch, Mapping) else given)
    readers = {(s.weight, s.expert): s for s in found if s.role == "input" and s.weight is not None}
    fed = [(name, site.expert) for site in sites for name in site.producers] + [(name, None) for name in more]
    wanted = {s.name: s for s in sites if s.role == "input"}
    wanted |= {s.name: s for name, expert in fed if (s := readers.get((name, expert)) or readers.get((name, None))) is not None}
    keeper = _Keeper({name for site in sites if is_fused(site) for name in site.producers})
    norms: list[Norm] = []
    with watched_norms(model, norms), capture(model, list(wanted.values()), keeper) as session:
        session.run(batch, Frame.of(batch))
    return Look(batch, sites, readers, keeper.read, keeper.ups, keeper.written, norms)


def is_fused(site: Site) -> bool:
    """Whether gate and up come from one matrix."""
    return len(site.producers) == 2 and site.producers[0] == site.producers[1]


class _Keeper:
    """Keeps the first rows of everything it is shown. Memory: `ROWS` rows a site."""

    gates = True

    def __init__(self, fused: set[str]) -> None:
        self._fused = fused
        self.read: dict[str, Tensor] = {}
        self.ups: dict[str, Tensor] = {}
        self.written: dict[str, Tensor] = {}

    def values(self, site: Site, values: Tensor, rows: Tensor | None) -> None:  # noqa: ARG002 - the capture's contract
        """What a matrix reads."""
        self.read[site.name] = values[:ROWS].float().clone()

    def product(self, site: Site, values: Tensor, rows: Tensor | None, output: Tensor, gate: Tensor | None, up: Tensor | None) -> None:  # noqa: ARG002
        """What a fused matrix gave, and the up factor of gated units."""
        if up is not None:
            self.ups[site.name] = up[:ROWS].float().clone()
        if site.weight in self._fused:
            self.written[site.name] = output[:ROWS].float().clone()


# ---------------------------------------------------------------------------------------------------------------------
# Norms


class watched_norms:  # noqa: N801 - used as a context manager, read like a function
    """While it is open, every module that proves to be a norm is added to ``found`` as it runs, in order."""

    def __init__(self, model: nn.Module, found: list[Norm]) -> None:
        self._model, self._found = model, found
        self._handles: list[Any] = []

    def __enter__(self) -> None:
        from analysis.capture.running import modules_by_path

        for path, module in modules_by_path(self._model).items():
            if _may_be_norm(module):
                self._handles.append(module.register_forward_hook(self._returned(path)))

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()

    def _returned(self, path: str) -> Any:
        def hook(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            norm = norm_of(path, module, args[0], output) if args else None
            if norm is not None:
                self._found.append(norm)

        return hook


def _may_be_norm(module: nn.Module) -> bool:
    """No parts of its own and nothing but vectors as parameters; without any, it must say what shape it normalises."""
    parameters = list(module.parameters(recurse=False))
    vectors = bool(parameters) and all(p.ndim == 1 for p in parameters)
    return not any(module.children()) and (vectors or (not parameters and hasattr(module, "normalized_shape")))


def norm_of(path: str, module: nn.Module, x: Any, y: Any) -> Norm | None:
    """The module as a norm over the last axis, by the formula that reproduces y from x best; None where none does.

    Formulas: gain * middle(x) / rms(middle(x)) + bias, with middle(x) = x or x - mean(x) and gain = weight or 1 + weight.
    """
    import torch

    if not isinstance(x, torch.Tensor) or not isinstance(y, torch.Tensor) or x.shape != y.shape or not x.ndim:
        return None
    x, y = (t.detach().float().reshape(-1, t.shape[-1])[:NORM_ROWS] for t in (x, y))
    weight, bias = (getattr(module, name, None) for name in ("weight", "bias"))
    weight = torch.ones(x.shape[1], device=x.device) if weight is None else weight.detach().float()
    if weight.shape != x.shape[1:]:
        return None
    shift = 0.0 if bias is None else bias.detach().float()
    fits = []
    for norm in _formulas(path, weight, x, y):
        # Medians over rows, and directions first: a row near zero is ruled by the norm's eps.
        expected = norm.normalised(x) * norm.gain
        error = ((expected + shift - y).norm(dim=1) / y.norm(dim=1).clamp_min(1e-30)).median()
        fits.append((float(_distance(y - shift, expected).median()) > FITS, float(error), norm))
    no_fit, _, best = min(fits, key=lambda fit: fit[:2])
    return None if no_fit else best


def _formulas(path: str, weight: Tensor, x: Tensor, y: Tensor) -> Iterator[Norm]:
    for centred in (False, True):
        yield Norm(path, weight, centred, x, y)
        yield Norm(path, 1 + weight, centred, x, y)

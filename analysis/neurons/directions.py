"""What each neuron reads and writes: rows of weights, and the matrices that turn them into tokens.

1. Input direction: the row of the matrix that feeds the activation function (the gate path of a gated unit). Where gate and up
   share one matrix, the rows of the up path are those whose product equals the up factor seen in a forward pass.
2. Output direction: the column of the matrix that reads the neuron.
3. The unembedding can read output directions where the neuron's own contribution reaches it by addition alone. That is tried, not
   assumed: raise one neuron of the last site and see whether what the final norm reads moves along its output direction.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from analysis.capture.site import Site
from analysis.neurons.look import Look, Norm, is_fused, watched_norms
from analysis.neurons.observing import matrix, output_weights

if TYPE_CHECKING:
    from torch import Tensor, nn

MOVES_ALONG = 0.99
"""Cosine from which the final norm's input is taken to move along a neuron's output direction."""
PUSH = 10.0
"""Length of that move, in lengths of what the final norm reads."""


@dataclass(frozen=True)
class Lens:
    """The unembedding, and the norm in front of it."""

    weight: Tensor
    """[vocabulary, d]."""
    path: str
    norm: Norm | None
    stream: str
    """Token stream whose neurons it reads."""

    def folded(self, out: Tensor) -> Tensor:
        """Output directions [n, d] as the unembedding sees them: centred where the norm centres, times its gain; its scale left out."""
        return out if self.norm is None else self.norm.middle(out) * self.norm.gain


class Directions:
    """Input and output directions of every neuron of a model."""

    def __init__(self, model: nn.Module, look: Look) -> None:
        self._model, self._look = model, look
        self._up_rows: dict[str, slice] = {}
        for site in look.sites:
            if is_fused(site) and site.producers[0] not in self._up_rows:
                rows = self._find_up(site)
                if rows is not None:
                    self._up_rows[site.producers[0]] = rows

    def out(self, site: Site) -> Tensor | None:
        """w_out [width, d_out, ...] in float32; None where it could not be read as a matrix."""
        weight = output_weights(self._model, site)
        return None if weight is None else weight.float()

    def into(self, site: Site) -> Tensor | None:
        """w_in [width, d_in, ...] in float32, of the gate path of a gated unit; None where the matrices could not be told apart."""
        if not site.producers or site.width is None:
            return None
        name, fused = site.producers[0], is_fused(site)
        reader = self._look.reader(name, site.expert)
        transposed = None if reader is None else reader.transposed
        if transposed and reader is not None and reader.operator.startswith("conv"):
            return None
        rows = 2 * site.width if fused else site.width
        weight = matrix(self._model, name, rows=rows, expert=site.expert, transposed=transposed)
        if weight is None:
            return None
        if fused:
            up = self._up_rows.get(name)
            if up is None:
                return None
            gate = {(0, 1): slice(site.width, None), (0, 2): slice(1, None, 2), (1, 2): slice(0, None, 2)}
            weight = weight[gate.get((up.start, up.step), slice(0, site.width))]
        shape = self._model.get_parameter(name).shape
        return weight.float().reshape(site.width, *shape[1:]) if len(shape) > 3 else weight.float()

    def _find_up(self, site: Site) -> slice | None:
        """Rows of a fused matrix that are the up path: halves or every other row."""
        import torch

        reader = self._look.reader(site.producers[0], site.expert)
        up = self._look.ups.get(site.name)
        gave = None if reader is None else self._look.written.get(reader.name)
        if up is None or gave is None or site.width is None or gave.shape != (len(up), 2 * site.width):
            return None
        for rows in (slice(0, site.width, 1), slice(site.width, None, 1), slice(0, None, 2), slice(1, None, 2)):
            if torch.equal(gave[:, rows], up):
                return rows
        return None

    def norm_before(self, site: Site) -> Norm | None:
        """The norm through which the neurons of a site read; None where none was found. An expert no token chose reads as the others."""
        if not site.producers:
            return None
        own = self._look.reader(site.producers[0], site.expert)
        others = (r for (name, _), r in self._look.readers.items() if name == site.producers[0])
        seen = next((r for r in (own, *others) if r is not None and len(self._look.read.get(r.name, ()))), None)
        return None if seen is None else self._look.norm_before(seen)


# ---------------------------------------------------------------------------------------------------------------------


def end_of(model: nn.Module, side: str) -> tuple[str, Tensor] | None:
    """Name and values [vocabulary, d] of the model's token embedding (``input``) or unembedding (``output``), where it has one."""
    from analysis.models.pieces import embedding_module

    module = embedding_module(model, side)
    if module is None:
        return None
    path = next((path for path, m in model.named_modules() if m is module), "")
    return f"{path}.weight" if path else "weight", module.weight.detach()


def lens_of(model: nn.Module, look: Look, directions: Directions) -> Lens | str:
    """The unembedding as a lens on output directions, or the sentence why it is none."""
    end = end_of(model, "output")
    if end is None:
        return f"{type(model).__name__} has no unembedding, so there are no promoted or suppressed tokens."
    name, weight = end
    reader = look.reader(name, None)
    if reader is None or reader.name not in look.read:
        return f"the unembedding {name} was not seen reading anything, so there are no promoted or suppressed tokens."
    norm = look.norm_before(reader)
    for site in reversed(look.sites):
        out = directions.out(site)
        if out is not None and out.ndim == 2 and out.shape[1] == weight.shape[1] and len(look.read.get(site.name, ())):
            if _reaches(model, look, site, out, reader, norm):
                return Lens(weight.float(), name.removesuffix(".weight"), norm, site.stream)
            where = "what the unembedding reads" if norm is None else f"what {norm.path} reads"
            return (
                f"what the neurons of {site.hook_name} write does not reach {where} by addition alone (a further layer or norm stands "
                "between), so there are no promoted or suppressed tokens."
            )
    return "no neuron writes into the space that the unembedding reads, so there are no promoted or suppressed tokens."


def _reaches(model: nn.Module, look: Look, site: Site, out: Tensor, reader: Site, norm: Norm | None) -> bool:
    """Whether raising one neuron of a site moves what the final norm reads (or the unembedding, without a norm) along its w_out."""
    import torch

    from analysis.capture import Frame, capture

    before = look.read[reader.name] if norm is None else norm.x
    neuron = int(out.norm(dim=1).argmax())
    pusher = _Pusher(site, neuron, PUSH * float(before.norm(dim=1).mean() / out[neuron].norm()))
    norms: list[Norm] = []
    sites = [site] if reader.name == site.name else [site, reader]
    with watched_norms(model, norms), capture(model, sites, pusher) as session:
        session.run(look.batch, Frame.of(look.batch))
    after = pusher.read.get(reader.name) if norm is None else next((n.x for n in reversed(norms) if n.path == norm.path), None)
    if after is None or after.shape != before.shape:
        return False
    moved = after - before
    moved = moved[moved.norm(dim=1) > 1e-3 * moved.norm(dim=1).max()]
    along = torch.nn.functional.cosine_similarity(moved, out[neuron][None], dim=1)
    return bool(len(along)) and float(along.min()) > MOVES_ALONG


class _Pusher:
    """Raises one neuron of a site on every token."""

    def __init__(self, site: Site, neuron: int, push: float) -> None:
        self._name, self._neuron, self._push = site.name, neuron, push
        self.read: dict[str, Tensor] = {}

    def values(self, site: Site, values: Tensor, rows: Tensor | None) -> Any:  # noqa: ARG002 - the capture's contract
        """The values with that neuron raised; of other sites what they read."""
        from analysis.neurons.look import ROWS

        if site.name != self._name:
            self.read[site.name] = values[:ROWS].float().clone()
            return None
        raised = values.clone()
        raised[:, self._neuron] += self._push
        return raised

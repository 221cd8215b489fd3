"""Find the places of a model: run it once as `find_sites` does, and note besides what modules return and what is added to the stream.

1. A block is an entry of a list of modules; its output is the residual stream where a residual addition happens inside it.
2. Each operand of such an addition that comes from a product which read attention (or an FFN inner activation) is what the attention
   (or the MLP) adds. Its place is the outermost module of the block that returns these very values: behind a norm, where one follows.
3. What the MLP reads is the argument of the outermost module of the block that holds every matrix in front of the activation.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from analysis.capture.discovery import Watch
from analysis.capture.experts import with_all_experts
from analysis.capture.naming import block_of, finished
from analysis.capture.operators import tensors_in
from analysis.capture.running import Call, observable, run, unwrapped
from analysis.capture.site import Site
from analysis.capture.streams import Layout, with_distinct_lengths
from analysis.latents.naming import named
from analysis.latents.places import Place, PlaceKind

if TYPE_CHECKING:
    from torch import Tensor, nn

    from analysis.capture.lineage import Node
    from analysis.capture.operators import Reading

_RANK: tuple[PlaceKind, ...] = ("attention_z", "attention_out", "mlp_in", "ffn", "conv", "mlp_out", "residual", "matrix")
"""The order of places within a layer."""
_BRANCHES: tuple[PlaceKind, ...] = ("attention_out", "mlp_out")


@dataclass(frozen=True)
class Passed:
    """A tensor that entered or left a module."""

    path: str
    role: Literal["input", "output"]
    same: int
    """Its values (`Node.same`)."""
    width: int
    axis: int
    layout: Layout


@dataclass(frozen=True)
class Added:
    """A residual addition: where, and what was added: values, and the products they come from."""

    path: str
    operands: tuple[tuple[int, frozenset[int]], ...]


class ModuleWatch(Watch):
    """The watch of `find_sites`, which also takes down what passes through modules."""

    def __init__(self, model: nn.Module, batch: Any) -> None:
        super().__init__(model, batch)
        self.passed: list[Passed] = []
        self.added: list[Added] = []
        self.branch: dict[int, PlaceKind] = {}
        """By the serial of a product (or of opaque attention): which sublayer it ends."""
        self.read_by: dict[str, set[int]] = {}
        """By a stored matrix: the values it read."""
        self.head_width: dict[int, int] = {}
        """By the serial of an attention operator."""
        self.heads: dict[str, int] = {}
        """By the name of the site that reads the heads side by side; 0 where they cannot be told apart."""
        self.times: Counter[str] = Counter()

    def _enter(self, call: Call) -> None:
        super()._enter(call)
        self.times[call.path] += 1
        self._pass(call.path, "input", call.args[0] if call.args else None)

    def _leave(self, call: Call, output: Any) -> None:
        super()._leave(call, output)
        self._pass(call.path, "output", output[0] if isinstance(output, tuple) and output else output)

    def _pass(self, path: str, role: Literal["input", "output"], tensor: Any) -> None:
        node = self._lineage.of(tensor)
        if node is not None and tensor.ndim > 1 and tensor.is_floating_point():
            # Asked of the shape: an operator that ran here would count as one of the module's own.
            shape, gathered = tuple(tensor.shape), self._flow.of(tensor)
            lead = tuple(size for place, size in enumerate(shape) if place != node.axis % len(shape))
            layout = self._streams.laid_out(lead) if gathered is None else Layout(gathered.stream)
            self.passed.append(Passed(path, role, node.same, shape[node.axis], node.axis, layout))

    def _product(self, reading: Reading, values: Node, operands: list[Node], result: Tensor) -> None:
        super()._product(reading, values, operands, result)
        stored = self._parameters.find(reading.weight, self._stack.path)
        made = self._lineage.of(result)
        if stored is None or made is None:
            return
        self.read_by.setdefault(stored.name, set()).add(values.same)
        attention = values.products & self._lineage.attention
        if attention:
            self.branch[made.serial] = "attention_out"
            width, part = reading.values.shape[reading.axis], self.head_width.get(min(attention), 0)
            self.heads[self._name(reading, self._stack.path, stored.name)] = width // part if part and not width % part else 0
        elif values.activation is not None and not reading.operator.startswith("conv"):
            self.branch[made.serial] = "mlp_out"

    def _attention(self, operator: str, args: Any, kwargs: Any, operands: list[Node], result: Any) -> None:
        super()._attention(operator, args, kwargs, operands, result)
        out = next(tensors_in(result))
        node = self._lineage.of(out)
        if node is not None and operator == "mha":
            self.branch[node.serial] = "attention_out"
        elif node is not None:
            self.head_width[node.serial] = out.shape[-1]

    def _residual(self, node: Node, branch: Node) -> None:
        super()._residual(node, branch)
        self.added.append(Added(self._stack.path, tuple((one.same, one.products) for one in node.parents)))


# ---------------------------------------------------------------------------------------------------------------------


def find_places(model: nn.Module, batch: Any, names: Mapping[str, str]) -> tuple[Place, ...]:
    """See `places.places`."""
    model = unwrapped(model)
    batch = with_distinct_lengths(batch)
    with observable(model), ModuleWatch(model, batch) as watch:
        run(model, batch)
    sites = finished(model, with_all_experts(model, watch.unread()), names)
    finder = _Finder(model, watch, sites)
    found = [*finder.of_sites(), *finder.of_streams(), *finder.of_branches(), *finder.of_mlp_inputs()]
    order = {site.name: place for place, site in enumerate(sites)}
    found.sort(key=lambda place: (place.layer, _RANK.index(place.kind), place.site.role != "input", order.get(place.name, 0)))
    return named(finder.blocks, finder.after(), found, names)


class _Finder:
    """Turns what one pass showed into places, whose hook names are still those of their sites."""

    def __init__(self, model: nn.Module, watch: ModuleWatch, sites: list[Site]) -> None:
        self._model, self._watch, self._sites = model, watch, sites
        self._layers = {block_of(model, site.module): site.layer for site in sites}
        inside = dict.fromkeys(block_of(model, added.path) for added in watch.added)
        self.blocks = [path for is_block, path in inside if is_block]
        """Paths of the blocks that add to a residual stream, in order of execution."""
        self._once = {path for path, times in watch.times.items() if times == 1}

    def after(self) -> dict[str, str]:
        """Of a block, the one that is given the very values it returns."""
        given = {one.same: one.path for one in self._watch.passed if one.role == "input" and one.path in self.blocks}
        return {p.path: given[p.same] for p in self._watch.passed if p.role == "output" and p.path in self.blocks and p.same in given}

    def of_sites(self) -> Iterable[Place]:
        """What matrices read."""
        for site in self._sites:
            if site.role != "input" or site.width is None or (site.expert is None and site.module and site.module not in self._once):
                continue
            heads = self._watch.heads.get(site.name)
            kind: PlaceKind = "attention_z" if heads is not None else "matrix" if site.kind not in ("ffn", "conv") else site.kind
            yield Place(site.name, site.hook_name, kind, site.layer, site.width, site.module, heads or None, site)

    def of_streams(self) -> Iterable[Place]:
        """What each block returns, and what the first one of a list is given."""
        for place, block in enumerate(self.blocks):
            is_first = place == 0 or self.blocks[place - 1].rpartition(".")[0] != block.rpartition(".")[0]
            for one in self._watch.passed:
                if one.path == block and block in self._once and (one.role == "output" or is_first):
                    yield self._place(one, "residual")

    def of_branches(self) -> Iterable[Place]:
        """What attention and MLPs add to the stream."""
        for added in self._watch.added:
            block = self._block(added.path)
            for same, products in added.operands if block is not None else ():
                kinds = {self._watch.branch[product] for product in products if product in self._watch.branch}
                kind: PlaceKind | None = next((kind for kind in _BRANCHES if kind in kinds), None)
                returned = [p for p in self._watch.passed if p.role == "output" and p.same == same and self._within(p.path, block)]
                if kind is not None and returned:
                    yield self._place(min(returned, key=lambda one: one.path.count(".")), kind)

    def of_mlp_inputs(self) -> Iterable[Place]:
        """What the matrices in front of each FFN inner activation read, where one module is given it."""
        for site in self._sites:
            block = self._block(site.module)
            read = [self._watch.read_by.get(weight, set()) for weight in site.producers]
            if (
                site.kind != "ffn"
                or site.expert is not None
                or block is None
                or not read
                or any(one != read[0] or len(one) != 1 for one in read)
            ):
                continue
            owners = [weight.rpartition(".")[0] for weight in site.producers]
            given = [
                one
                for one in self._watch.passed
                if one.role == "input" and one.same in read[0] and self._within(one.path, block)
                if all(owner == one.path or owner.startswith(f"{one.path}.") for owner in owners)
            ]
            if given:
                yield self._place(min(given, key=lambda one: one.path.count(".")), "mlp_in")

    def _block(self, path: str) -> str | None:
        is_block, block = block_of(self._model, path)
        return block if is_block else None

    def _within(self, path: str, block: str | None) -> bool:
        return block is not None and path.startswith(f"{block}.") and path in self._once

    def _place(self, passed: Passed, kind: PlaceKind) -> Place:
        name = f"{passed.path}:{passed.role}"
        layer = self._layers[block_of(self._model, passed.path)]
        hook = f"{passed.path}.hook_{'in' if passed.role == 'input' else 'out'}"
        site = replace(
            _BARE,
            name=name,
            module=passed.path,
            role=passed.role,
            layer=layer,
            width=passed.width,
            stream=passed.layout.stream,
            hook_name=hook,
            axis=passed.axis,
            positions_first=passed.layout.positions_first,
        )
        return Place(name, hook, kind, layer, passed.width, passed.path, None, site, (passed.path,) if passed.role == "output" else ())


_BARE = Site(
    name="", kind="residual", module="", operator="module", role="output", layer=0, width=None, stream="rows", activation=None, weight=None,
    expert=None, transposed=False, producers=(), gate=None, up=None, plain=True, hook_name="",
)  # fmt: skip
"""A module's input or output as a site: plain hooks suffice."""

"""Where a tensor's values come from: the rules by which an activation is followed from its function to the next matrix product.

Every tensor that depends on the input has a `Node`; constants (parameters, masks made of ``arange``, numbers) have none. Nodes are
kept by tensor identity in a weak dictionary: they hold no tensor, and an entry goes with its tensor, so that an
identity that Python gives to a later tensor is never mistaken for the earlier one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import count
from typing import TYPE_CHECKING, Any

from analysis.capture.operators import ELEMENTWISE, MOVES, MULTIPLICATIONS, RESHAPES, SELF_PRODUCTS, SLICES, SUMS, activation_of, tensors_in

if TYPE_CHECKING:
    from torch import Tensor

Source = tuple[int, tuple[Any, ...]]
"""A matrix product (its node's serial) and the slices taken of its output: two slices are two sources."""


@dataclass
class Node:
    """What is known of one tensor's values."""

    serial: int
    same: int
    """Serial of the tensor whose values these are, in the same order, perhaps in another shape."""
    root: int
    """Serial of the tensor that these values are a linear function of."""
    sources: frozenset[Source] = frozenset()
    activation: Activation | None = None
    parents: tuple[Node, ...] = ()
    softmax: bool = False
    shape: tuple[int, ...] = ()
    axis: int = -1
    """Dimension that counts coordinates: 1 behind a convolution, else the last."""
    module: str | None = None
    """Innermost module that returned this tensor."""

    @property
    def products(self) -> frozenset[int]:
        """The matrix products these values come from, slices ignored."""
        return frozenset(product for product, _ in self.sources)


@dataclass(frozen=True)
class Activation:
    """One activation function at work: its name, what it was applied to, and what gates it."""

    name: str
    argument: int
    sources: frozenset[Source]
    event: int
    """Serial of the function's output: one activation at work, however its result is reshaped, scaled or gated."""
    gate: Node | None = None
    up: Node | None = None


class Lineage:
    """The nodes of one forward pass, and the rules that make a new one from its operands."""

    def __init__(self) -> None:
        from torch.utils.weak import WeakIdKeyDictionary

        self._nodes: Any = WeakIdKeyDictionary()
        self._serials = count()
        self.attention: set[int] = set()
        """Serials that stand for the result of an attention operator among sources."""
        self._rules: tuple[tuple[frozenset[str], Callable[[Node, str, list[Node]], Node]], ...] = (
            (RESHAPES, self._reshaped),
            (MOVES, self._moved),
            (SLICES, self._moved),
            (ELEMENTWISE, self._unary),
            (SUMS, self._sum),
            (MULTIPLICATIONS, self._multiplied),
        )
        self.on_residual: Callable[[Node, Node], None] = lambda node, branch: None
        """Called with the node of a residual sum and of the branch that was added."""

    def of(self, value: Any) -> Node | None:
        """The node of a tensor that depends on the input, or None."""
        import torch

        return self._nodes.get(value) if isinstance(value, torch.Tensor) else None

    def begin(self, batch: Any) -> None:
        """Make the tensors of a batch the beginnings."""
        for tensor in tensors_in(batch):
            self.set(tensor, self._fresh(()))

    def set(self, tensor: Tensor, node: Node) -> Node:
        """Remember a tensor's node."""
        node.shape = tuple(tensor.shape)
        self._nodes[tensor] = node
        return node

    def _fresh(self, parents: Iterable[Node]) -> Node:
        serial = next(self._serials)
        parents = tuple(parents)
        sources: frozenset[Source] = frozenset().union(*(p.sources for p in parents))
        return Node(serial, serial, serial, sources, parents=parents, axis=parents[0].axis if parents else -1)

    def operands(self, args: Any, kwargs: Mapping[str, Any]) -> list[Node]:
        """Nodes of all operands that depend on the input."""
        return [node for t in (*tensors_in(args), *tensors_in(kwargs)) if (node := self.of(t)) is not None]

    def source(self, output: Tensor, operands: list[Node], *, linear: bool, axis: int = -1) -> Node:
        """Node of the output of a matrix product or an attention operator: a new source."""
        node = self._fresh(operands)
        node.sources = frozenset({(node.serial, ())})
        node.axis = axis
        if linear and operands:
            node.root = operands[0].root
        if not linear:
            self.attention.add(node.serial)
        return self.set(output, node)

    def follow(self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any], result: Any) -> None:
        """Derive the nodes of a function's results from those of its operands."""
        made = list(tensors_in(args[0] if name == "setitem" else result))
        operands = self.operands(args, kwargs) if made else []
        if not operands:
            return
        called = activation_of(name, args, kwargs)
        for place, out in enumerate(made):
            node = self._fresh(operands)
            node.shape = tuple(out.shape)
            if called is not None:
                node.activation = _glu(operands[0], node.serial) if called == "glu" else _applied(called, operands[0], node.serial)
            else:
                for names, rule in self._rules:
                    if name in names:
                        node = rule(node, name, operands)
                        break
                if name in SLICES:
                    self._slice(node, out, operands[0], place)
            self.set(out, node)

    def _reshaped(self, node: Node, _: str, operands: list[Node]) -> Node:
        of = operands[0]
        same_row = bool(node.shape) and bool(of.shape) and node.shape[-1] == of.shape[-1]
        node.root, node.activation, node.softmax = of.root, of.activation, of.softmax
        node.same = of.same if same_row else node.same
        return node

    def _moved(self, node: Node, name: str, operands: list[Node]) -> Node:
        of = operands[0]
        node.root, node.axis = of.root, of.axis if name in SLICES or name.startswith("cat") or name == "concat" else -1
        # Of several tensors put together, the whole is activated only if each part is.
        node.activation = of.activation if all(o.activation for o in operands if o.sources) else None
        node.softmax = of.softmax
        return node

    def _slice(self, node: Node, out: Tensor, of: Node, place: int) -> None:
        """Mark the sources with the slice taken; a view tells by its geometry, so the same slice taken twice is the same."""
        if node.shape[-1:] == of.shape[-1:]:
            return
        key = (out.storage_offset(), node.shape, out.stride()) if out._is_view() else ("copy", node.serial, place)
        node.sources = frozenset((product, (*path, key)) for product, path in node.sources)

    def _unary(self, node: Node, name: str, operands: list[Node]) -> Node:
        of = operands[0]
        node.activation = of.activation
        if of.activation is not None and of.activation.name == "relu" and name in ("pow", "square"):
            node.activation = replace(of.activation, name="relu2")
        node.softmax = name == "masked_fill" and of.softmax
        return node

    def _sum(self, node: Node, _: str, operands: list[Node]) -> Node:
        varying = [o for o in operands if o.sources] or operands
        if len(operands) == 1 or len(varying) == 1:
            node.root, node.activation = varying[0].root, varying[0].activation
            if len(operands) == 2 and operands[0].shape == operands[1].shape and varying[0].sources:
                self._residual(node, operands)
            return node
        a, b = operands[:2]
        if a.shape != b.shape or a.products == b.products:
            node.activation = a.activation or b.activation if a.products == b.products else (a.activation if b.activation else None)
            return node
        ancestral = descends(a, b) or descends(b, a)
        both_activated = a.activation is not None and b.activation is not None
        if ancestral or (a.root != b.root and not both_activated):
            return self._residual(node, operands)
        node.root = a.root
        node.activation = a.activation if both_activated else None
        return node

    def _residual(self, node: Node, operands: list[Node]) -> Node:
        a, b = operands[:2]
        node.root, node.activation = node.serial, None
        # The branch is what was computed last; the stream itself is one source from here on.
        branch = max(a, b, key=lambda n: (bool(n.sources), n.serial))
        node.sources = frozenset({(node.serial, ())})
        self.on_residual(node, branch)
        return node

    def _multiplied(self, node: Node, _: str, operands: list[Node]) -> Node:
        varying = [o for o in operands if o.sources]
        if len(varying) < 2:
            of = varying[0] if varying else operands[0]
            node.activation, node.softmax = of.activation, of.softmax
            node.root = of.root if len(operands) == 1 else node.root
            return node
        a, b = varying[:2]
        if a.activation is None:
            a, b = b, a
        if a.activation is None:
            return node
        node.activation = self._gated(a, a.activation, b)
        return node

    def _gated(self, a: Node, act: Activation, b: Node) -> Activation | None:
        """The activation that act(a) times b is: a gated unit, the same function written out, or none at all (a norm)."""
        if b.products & self.attention:
            return None
        own = b.sources <= act.sources
        if a.shape != b.shape:
            return None if own or (a.shape[-1:] != b.shape[-1:] and b.shape[-1:] != (1,)) else act
        if act.gate is not None:
            return act
        if own:
            written = "silu" if act.name == "sigmoid" and b.same == act.argument else SELF_PRODUCTS.get(act.name, act.name)
            return replace(act, name="quick_gelu" if act.name == "sigmoid" and written == "sigmoid" else written)
        return replace(act, gate=a, up=b)


def _applied(name: str, of: Node, event: int) -> Activation:
    return Activation(name, of.same, of.sources, event)


def _glu(of: Node, event: int) -> Activation:
    """``glu(x)``: the first half of x is up, the second, through a sigmoid, the gate."""
    up, gate = (replace(of, sources=frozenset((p, (*path, ("glu", half))) for p, path in of.sources), module=None) for half in (0, 1))
    return Activation("sigmoid", of.same, gate.sources, event, gate=gate, up=up)


def descends(node: Node, ancestor: Node) -> bool:
    """Whether ``ancestor``'s values went into ``node``. Serials grow along every path, so the search ends at the ancestor's."""
    todo, seen = [node], set()
    while todo:
        one = todo.pop()
        if one.same == ancestor.same:
            return True
        todo.extend(p for p in one.parents if p.serial >= ancestor.same and p.serial not in seen)
        seen.update(p.serial for p in one.parents)
    return False

"""Find the sites of a model by running it once and watching every torch function it calls."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

from torch.overrides import TorchFunctionMode

from analysis.capture.experts import with_all_experts
from analysis.capture.flow import Flow, Rows
from analysis.capture.lineage import Activation, Lineage, Node
from analysis.capture.naming import finished, identity
from analysis.capture.operators import FUSED_ATTENTION, PRODUCTS, RECURRENT, RESHAPES, SOFTMAXES, Reading, name_of, read_product, tensors_in
from analysis.capture.parameters import Parameters, reads_rows_of
from analysis.capture.running import Call, ModuleStack, observable, run, unwrapped
from analysis.capture.site import Frame, Site
from analysis.capture.streams import Layout, Streams, with_distinct_lengths

if TYPE_CHECKING:
    from torch import Tensor, nn


def find_sites(model: nn.Module, batch: Mapping[str, Any] | tuple[Any, ...], *, names: Mapping[str, str] | None = None) -> list[Site]:
    """The sites of ``model``, in order of first execution, found by running it on ``batch``.

    ``batch`` holds the model's named or positional arguments; a few short examples are enough. Where encoder and decoder
    sequences are equally long, the decoder's is cut by one position, so that the stream of each site can be told.
    ``names`` maps module paths to canonical hook names. Raises `IncompatibleSubject` for scripted models.
    """
    model = unwrapped(model)
    batch = with_distinct_lengths(batch)
    with observable(model), Watch(model, batch) as watch:
        run(model, batch)
    return finished(model, with_all_experts(model, watch.unread()), names or {})


@dataclass
class Draft:
    """A site in the making: what is known when the operator runs; whether plain hooks suffice is known as its module returns."""

    site: Site
    stack: int = 0
    """Experts in the stack the weight is a slice of; 0 for a single matrix."""
    claims: int | None = None
    """The activation (`Activation.event`) that this site shows."""
    output: int | None = None
    reads_argument: bool = False
    rows: Rows | None = None
    """The gathering that the values come from."""


class Watch(TorchFunctionMode):
    """Records the operators of one forward pass as drafts of sites. `latents.finding` looks at the same pass for more."""

    def __init__(self, model: nn.Module, batch: Any) -> None:
        super().__init__()
        self.drafts: dict[str, Draft] = {}
        self._parameters = Parameters(model)
        self._lineage = Lineage()
        self._lineage.begin(batch)
        self._lineage.on_residual = self._residual
        frame = Frame.of(batch)
        self._flow = Flow(frame, self._numbered)
        self._streams = Streams(frame, self._flow)
        self._stack = ModuleStack(model, on_exit=self._leave, on_entry=self._enter)
        self._weights: dict[int, str] = {}
        self._claimed: dict[int, str] = {}
        self._read: set[int] = set()

    def __enter__(self) -> Self:
        self._stack.__enter__()
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._stack.__exit__(*error)

    def __torch_function__(self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = name_of(func)
        reading = read_product(name, args, kwargs, self._parameters.is_stored) if name in PRODUCTS else None
        operands = self._lineage.operands(args, kwargs)
        # In-place functions overwrite what was known of their operands, so everything is asked before the call.
        values = self._lineage.of(reading.values) if reading is not None else None
        result = func(*args, **kwargs)
        if not operands:
            return result
        if next(tensors_in(result), None) is not None:
            self._count_reads(name, operands)
        self._flow.follow(name, args, kwargs, result)
        if reading is not None and values is not None:
            self._product(reading, values, operands, result)
        elif name in FUSED_ATTENTION:
            self._attention(FUSED_ATTENTION[name], args, kwargs, operands, result)
        elif name in PRODUCTS and any(node.softmax for node in operands):
            self._attention("softmax", args, kwargs, operands, result)
        elif name in RECURRENT:
            self._recurrent(name, args, operands, result)
        else:
            self._lineage.follow("product" if name in PRODUCTS else name, args, kwargs, result)
            if name in SOFTMAXES and (node := self._lineage.of(result)) is not None:
                node.softmax = True
            self._activation(operands, result)
        return result

    def unread(self) -> list[Draft]:
        """The drafts, without activations that a matrix product reads: those are the product's input."""
        return [d for d in self.drafts.values() if d.site.kind != "activation" or d.claims not in self._read]

    # -----------------------------------------------------------------------------------------------------------------
    # Modules

    def _numbered(self, tensor: Tensor) -> int | None:
        node = self._lineage.of(tensor)
        return None if node is None else node.same

    def _enter(self, call: Call) -> None:
        first = self._lineage.of(call.args[0]) if call.args else None
        call.argument = None if first is None else first.same

    def _leave(self, call: Call, output: Any) -> None:
        node = self._lineage.of(output)
        if node is None:
            return
        node.module = node.module or call.path
        products = [draft for draft in call.drafts if draft.site.role == "input"]
        for draft in call.drafts:
            direct = draft.site.role != "input" or (draft.reads_argument and call.reads == 1 and len(products) == 1)
            draft.site = replace(draft.site, plain=direct and node.same == draft.output)

    def _count_reads(self, name: str, operands: list[Node]) -> None:
        call = self._stack.calls[-1] if self._stack.calls else None
        if call is not None and name not in RESHAPES and any(node.same == call.argument for node in operands):
            call.reads += 1

    # -----------------------------------------------------------------------------------------------------------------
    # Sites

    def _keep(self, draft: Draft) -> None:
        """Add a draft unless the same place has been seen; a place once seen with an activation stays a neuron site."""
        name = draft.site.name
        known = self.drafts.get(name)
        if known is None or (known.site.kind == "matrix" and draft.site.kind != "matrix"):
            self.drafts.pop(name, None)
            self.drafts[name] = draft
            if self._stack.calls and draft.output is not None:
                self._stack.calls[-1].drafts.append(draft)

    def _product(self, reading: Reading, values: Node, operands: list[Node], result: Tensor) -> None:
        path = self._stack.path
        stored = self._parameters.find(reading.weight, path)
        convolution = reading.operator.startswith("conv")
        rows = self._flow.of(reading.values)
        node = self._lineage.source(result, operands, linear=True, axis=1 if convolution else reading.out_axis or -1)
        if stored is None:
            return
        self._weights[node.serial] = stored.name
        act = values.activation if self._claimed.setdefault(values.same, "") in ("", self._name(reading, path, stored.name)) else None
        grouped = reading.offsets is not None
        stack = stored.parameter.shape[0] if grouped or stored.index is not None else 0
        layout = self._streams.of(reading.values, reading.axis)
        site = Site(
            name=self._name(reading, path, stored.name),
            kind="matrix" if act is None else "conv" if convolution else "ffn",
            module=path,
            operator=reading.operator,
            role="input",
            layer=0,
            width=reading.values.shape[reading.axis],
            stream=layout.stream,
            activation=None if act is None else act.name,
            weight=stored.name,
            expert=None,
            transposed="transpose" in reading.operator if convolution else reads_rows_of(reading.weight, reading.in_dim, stored.parameter),
            producers=() if act is None else self._producers(act),
            gate=None,
            up=None,
            plain=False,
            hook_name="",
            axis=reading.axis,
            product=reading.out_axis is not None,
            positions_first=layout.positions_first,
        )
        if act is not None:
            self._claimed[values.same] = site.name
            self._read.update(a.event for a in (act, *(n.activation for n in (act.gate, act.up) if n is not None)) if a is not None)
            site = replace(site, **_gate_modules(act))
        call = self._stack.calls[-1] if self._stack.calls else None
        direct = not stack and rows is None and call is not None and values.same == call.argument
        draft = Draft(site, stack, None if act is None else act.event, node.serial, direct and reading.axis in (-1, 1), rows)
        self._keep(draft)

    @staticmethod
    def _name(reading: Reading, path: str, weight: str) -> str:
        return identity(path, reading.operator, "input", weight)

    def _producers(self, act: Activation) -> tuple[str, ...]:
        if act.gate is None or act.up is None:
            return self._one_producer(act.sources)[:1]
        gate, up = (self._one_producer(node.sources) for node in (act.gate, act.up))
        return (*gate, *up) if gate and up else ()

    def _one_producer(self, sources: frozenset[tuple[int, tuple[Any, ...]]]) -> tuple[str, ...]:
        """The matrix that feeds a factor; of a sum of several (an adapter beside its base) the first that ran."""
        known = [self._weights[product] for product in sorted(product for product, _ in sources) if product in self._weights]
        return tuple(known[:1])

    def _attention(self, operator: str, args: Any, kwargs: Any, operands: list[Node], result: Any) -> None:
        out = next(tensors_in(result))
        node = self._lineage.source(out, operands, linear=False)
        if operator == "mha":
            weight = kwargs.get("out_proj_weight", args[11] if len(args) > 11 else None)
            stored = None if weight is None else self._parameters.find(weight, self._stack.path)
            if stored is not None:
                self._weights[node.serial] = stored.name
        self._output(operator, "attention", width=None, layout=self._queries(operator, out))

    def _queries(self, operator: str, out: Tensor) -> Layout:
        """Rows are queries: [batch, heads, positions, d], [batch * heads, positions, d]; of ``mha`` [positions, batch, d]."""
        if operator == "mha":
            return self._streams.laid_out(tuple(out.shape[:-1])) if out.ndim == 3 else Layout("rows")
        return Layout(self._streams.fitting(lambda shape: out.ndim > 2 and out.shape[-2] == shape[1]))

    def _recurrent(self, name: str, args: tuple[Any, ...], operands: list[Node], result: Any) -> None:
        out, *states = tensors_in(result)
        for tensor in (out, *states):
            self._lineage.source(tensor, operands, linear=True)
        sizes = args[1] if len(args) > 1 and isinstance(args[1], type(out)) and not args[1].is_floating_point() else None
        layout = self._streams.of(out, -1) if sizes is None else self._streams.packed(sizes)
        self._output(name, "recurrent", width=out.shape[-1], layout=layout, plain=True)
        for role, state in zip(("hidden", "cell"), states, strict=False):
            # [layers * directions, batch, hidden]: a row a sequence.
            self._output(name, "recurrent", width=state.shape[0] * state.shape[-1], layout=Layout("rows"), plain=True, role=role)

    def _activation(self, operands: list[Node], result: Any) -> None:
        node = self._lineage.of(result)
        act = None if node is None else node.activation
        if node is None or act is None or any(o.activation is not None for o in operands) or not act.sources:
            return
        if act.argument in {o.same for o in operands}:
            more = {"activation": act.name, "producers": self._producers(act), "axis": node.axis, "claims": act.event, "output": node.same}
            self._output(act.name, "activation", width=result.shape[node.axis], layout=self._streams.of(result, node.axis), **more)

    def _residual(self, node: Node, branch: Node) -> None:
        # The branch's own matrix is the one that ran last (a router runs before its experts).
        added = self._weights.get(max(branch.products, default=-1))
        width = node.shape[node.axis] if node.shape else None
        self._output("add", "residual", width=width, layout=self._streams.laid_out(node.shape[:-1]), weight=added, axis=node.axis)

    def _output(self, operator: str, kind: Any, *, width: int | None, layout: Layout, plain: bool = False, **more: Any) -> None:
        path = self._stack.path
        weight, role = more.pop("weight", None), more.pop("role", "output")
        self._keep(
            Draft(
                Site(
                    name=identity(path, operator, role, weight),
                    kind=kind,
                    module=path,
                    operator=operator,
                    role=role,
                    layer=0,
                    width=width,
                    stream=layout.stream,
                    activation=more.get("activation"),
                    weight=weight,
                    expert=None,
                    transposed=False,
                    producers=more.get("producers", ()),
                    gate=None,
                    up=None,
                    plain=plain,
                    hook_name="",
                    axis=more.get("axis", -1),
                    positions_first=layout.positions_first,
                ),
                claims=more.get("claims"),
                output=more.get("output"),
            )
        )


def _gate_modules(act: Activation) -> dict[str, str | None]:
    """Modules that return act(gate) and up; given only where both exist, since one alone shows nothing."""
    gate = None if act.gate is None else act.gate.module
    up = None if act.up is None else act.up.module
    return {"gate": gate, "up": up} if gate is not None and up is not None else {"gate": None, "up": None}

"""Observe and replace what flows past sites: plain hooks where they suffice, an intercepting mode for functional calls."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torch.overrides import TorchFunctionMode

from analysis.capture.flow import Flow, Gates
from analysis.capture.handover import Contract, Handed, hand_over
from analysis.capture.operators import PRODUCTS, Reading, name_of, read_product, with_values
from analysis.capture.parameters import Parameters
from analysis.capture.recurrent import shown_by
from analysis.capture.running import ModuleStack, modules_by_path, observable, run, unwrapped
from analysis.capture.site import CaptureError, Frame, Site

if TYPE_CHECKING:
    from torch import Tensor, nn


@contextlib.contextmanager
def capture(model: nn.Module, sites: Sequence[Site], observer: Any) -> Iterator[Session]:
    """Observe ``sites`` while batches are run through the session; every hook is gone afterwards, also on error.

    ``observer`` has a method ``values``, a method ``product``, or both (see `handover.Contract`).

    >>> with capture(model, sites, observer) as session:          # doctest: +SKIP
    ...     for batch in batches:
    ...         output = session.run(batch)
    """
    session = Session(unwrapped(model), sites, Contract(observer))
    try:
        session.attach()
        yield session
    finally:
        session.detach()


class Session:
    """A model with observed sites; made by `capture`."""

    def __init__(self, model: nn.Module, sites: Sequence[Site], contract: Contract) -> None:
        self._model, self._contract = model, contract
        self._modules = modules_by_path(model)
        self._frame: Frame | None = None
        self._handles: list[Any] = []
        self._pending: dict[str, Handed] = {}
        self._factors: dict[str, Tensor] = {}
        for site in sites:
            _check(site, self._modules)
        self._plain = [s for s in sites if s.plain and not (contract.wants_gates and s.gated and s.gate is None)]
        self._functional = [s for s in sites if s not in self._plain]

    def run(self, batch: Mapping[str, Any] | tuple[Any, ...], frame: Frame | None = None) -> Any:
        """The model's output on ``batch``, with its sites observed. ``frame`` says which tokens are real where the batch does not."""
        with observable(self._model), self.watching(frame or Frame.of(batch)):
            return run(self._model, batch)

    @contextlib.contextmanager
    def watching(self, frame: Frame) -> Iterator[None]:
        """While inside, one forward pass of the model on the batch of that frame is observed, whoever calls it."""
        self._frame = frame
        try:
            with contextlib.ExitStack() as stack:
                if self._functional:
                    stack.enter_context(_Intercept(self._model, self._functional, self._contract, frame))
                yield
        finally:
            self._frame = None
            self._pending.clear()
            self._factors.clear()

    # -----------------------------------------------------------------------------------------------------------------
    # Plain hooks

    def attach(self) -> None:
        """Put the plain hooks in place."""
        factors: set[str] = set()
        for site in self._plain:
            module = self._modules[site.module]
            if site.role != "input":
                if self._contract.values is not None:
                    self._handles.append(module.register_forward_hook(self._returned(site)))
                continue
            self._handles.append(module.register_forward_pre_hook(self._reads(site)))
            if self._contract.product is not None and site.product:
                self._handles.append(module.register_forward_hook(self._wrote(site)))
            if self._contract.factors or (self._contract.gates and site.product):
                factors |= {p for p in (site.gate, site.up) if p is not None}
        for path in factors:
            self._handles.append(self._modules[path].register_forward_hook(self._factor(path)))

    def detach(self) -> None:
        """Remove every hook."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def _framed(self) -> Frame:
        if self._frame is None:
            raise CaptureError("a captured model must be run by session.run(batch), got a direct call; pass the batch to the session.")
        return self._frame

    def _reads(self, site: Site) -> Callable[..., Any]:
        def pre_hook(_: Any, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
            handed = hand_over(site, args[0], self._framed(), None)
            gate, up = (self._factors.get(p) if p is not None else None for p in (site.gate, site.up))
            new = self._contract.read([handed], args[0], site.axis, gate, up)
            if self._contract.product is not None and site.product:
                self._pending[site.name] = handed
            return None if new is None else (new, *args[1:])

        return pre_hook

    def _wrote(self, site: Site) -> Callable[..., Any]:
        def hook(_: Any, _args: tuple[Any, ...], output: Tensor) -> None:
            gate, up = (self._factors.pop(p, None) if p is not None else None for p in (site.gate, site.up))
            self._contract.wrote([self._pending.pop(site.name)], output, -1, gate, up)

        return hook

    def _factor(self, path: str) -> Callable[..., Any]:
        def hook(_: Any, _args: tuple[Any, ...], output: Tensor) -> None:
            self._factors[path] = output

        return hook

    def _returned(self, site: Site) -> Callable[..., Any]:
        def hook(_: Any, _args: tuple[Any, ...], output: Any) -> Any:
            shown = shown_by(site, output, self._framed())
            handed = hand_over(site, shown.tensor, self._framed(), shown.rows)
            new = self._contract.read([handed], shown.tensor, site.axis)
            return None if new is None else shown.put(new)

        return hook


def _check(site: Site, modules: Mapping[str, Any]) -> None:
    seen = site.role == "input" or (site.plain and site.kind in ("recurrent", "activation", "residual"))
    if not seen:
        raise CaptureError(
            f"site {site.name} must be the input of a matrix product or a module's output to be captured, got a {site.kind} site inside a "
            f"forward pass; choose sites of kind ffn, conv, matrix or recurrent."
        )
    if site.module not in modules:
        raise CaptureError(f"site {site.name} must lie in the model, got no module {site.module!r}; find the sites of this model first.")


class _Intercept(TorchFunctionMode):
    """Watches functional matrix products for the sites that plain hooks cannot see."""

    def __init__(self, model: nn.Module, sites: Sequence[Site], contract: Contract, frame: Frame) -> None:
        super().__init__()
        self._contract, self._frame = contract, frame
        self._sites: dict[tuple[str, str, str | None], dict[int | None, Site]] = {}
        for site in sites:
            self._sites.setdefault((site.module, site.operator, site.weight), {})[site.expert] = site
        self._parameters = Parameters(model)
        self._flow = Flow(frame)
        self._gates = Gates() if contract.wants_gates else None
        self._stack = ModuleStack(model)

    def __enter__(self) -> _Intercept:
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
        handed = self._handed(reading) if reading is not None else []
        if reading is None or not handed:
            result = func(*args, **kwargs)
        else:
            gate, up = (None, None) if self._gates is None else self._gates.of(reading.values)
            new = self._contract.read(handed, reading.values, reading.axis, gate, up)
            result = func(*(args if new is None else with_values(name, args, reading, new)), **kwargs)
            aligned = [one for one in handed if one.site.product]
            if reading.out_axis is not None and aligned:
                self._contract.wrote(aligned, result, reading.out_axis, gate, up)
        self._flow.follow(name, args, kwargs, result)
        if self._gates is not None:
            self._gates.follow(name, args, kwargs, result)
        return result

    def _handed(self, reading: Reading) -> list[Handed]:
        """What each observed site is given of this product; of a grouped one, the rows of each expert that has any."""
        stored = self._parameters.find(reading.weight, self._stack.path)
        sites = None if stored is None else self._sites.get((self._stack.path, reading.operator, stored.name))
        if stored is None or not sites:
            return []
        rows = self._flow.of(reading.values)
        if reading.offsets is None:
            site = sites.get(stored.index)
            return [] if site is None else [hand_over(site, reading.values, self._frame, rows)]
        ends = reading.offsets.tolist()
        groups = [slice(start, end) for start, end in zip([0, *ends], ends, strict=False)]
        return [
            hand_over(sites[expert], reading.values, self._frame, rows, group)
            for expert, group in enumerate(groups)
            if expert in sites and group.stop > group.start
        ]

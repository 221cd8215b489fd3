"""Observe attention, or put another output in its place, while batches are run: a function mode around the modules that hold it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from torch.overrides import TorchFunctionMode

from analysis.capture.attention import AttentionCall
from analysis.capture.attention_seen import InsideOneCall, Seen, SoftmaxFollower, fused, with_output
from analysis.capture.operators import FUSED_ATTENTION, name_of, tensors_in
from analysis.capture.running import by_name, modules_by_path, observable, run, unwrapped
from analysis.capture.site import CaptureError, Frame, Site

if TYPE_CHECKING:
    from torch import Tensor, nn


class AttentionObserver(Protocol):
    """What is told of each call."""

    def attention(self, call: AttentionCall) -> Tensor | None:
        """Called after the operator ran, before the model goes on; the call's tensors are the model's own.

        What is given, in the shape of the call's output, the model goes on with; None leaves it what it is.
        """
        ...


@contextlib.contextmanager
def capture_attention(model: nn.Module, sites: Sequence[Site], observer: AttentionObserver) -> Iterator[AttentionSession]:
    """Observe attention sites (kind ``attention``, as `find_sites` finds them) while batches are run through the session.

    The model computes what it computes without, unless the observer gives other outputs; every hook is gone afterwards, also on error.
    """
    session = AttentionSession(unwrapped(model), sites, observer)
    try:
        session.attach()
        yield session
    finally:
        session.detach()


class AttentionSession:
    """A model whose attention is observed; made by `capture_attention`.

    ``direct``: the model is called by whoever likes, instead of by `run`; the frame is what its own arguments say, and a pass in which
    no attention is seen is an error.
    """

    def __init__(self, model: nn.Module, sites: Sequence[Site], observer: AttentionObserver, *, direct: bool = False) -> None:
        self._model, self._observer, self._direct = model, observer, direct
        self._sites = {(site.module, site.operator): site for site in sites}
        self._modules = modules_by_path(model)
        for site in sites:
            if site.kind != "attention" or site.module not in self._modules:
                raise CaptureError(
                    f"site {site.name} must be attention in the model, got kind {site.kind}; find the sites of this model first."
                )
        self._handles: list[Any] = []
        self._frame: Frame | None = None
        self._batch = 0
        self._turns: dict[str, int] = {}
        self._running: list[str] = []

    def run(self, batch: Mapping[str, Any] | tuple[Any, ...], frame: Frame | None = None) -> Any:
        """The model's output on ``batch``. ``frame`` says which tokens are real where the batch does not."""
        self._begin(batch, frame)
        try:
            with observable(self._model):
                return run(self._model, batch)
        finally:
            self._end()

    def _begin(self, batch: Any, frame: Frame | None = None) -> None:
        self._frame, self._turns = frame or Frame.of(batch), {}
        mask = self._frame.mask
        self._batch = mask.shape[0] if mask is not None else next(t.shape[0] for t in tensors_in(batch) if t.ndim)

    def _end(self) -> None:
        self._frame = None
        self._running.clear()

    def _called(self, _: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """The model itself is called, where `direct`."""
        self._begin(by_name(self._model.forward, args, kwargs))

    def _returned(self, _: Any, _args: Any, output: Any) -> None:
        """The model itself has run, or raised: then there is no output."""
        seen, _ = bool(self._turns), self._end()
        if output is not None and not seen:
            raise CaptureError("a pass through the model must show its attention, got none; run it in eval mode, uncompiled.")

    def attach(self) -> None:
        """Put a mode around each module that holds attention."""
        if self._direct:
            self._handles.append(self._model.register_forward_pre_hook(self._called, with_kwargs=True))
        for path in dict.fromkeys(module for module, _ in self._sites):
            operators = {operator for module, operator in self._sites if module == path}
            modes: list[_Watch] = []
            module = self._modules[path]
            self._handles.append(module.register_forward_pre_hook(self._entering(path, operators, modes)))
            # Also called where the module raised, so that no mode is left behind.
            self._handles.append(module.register_forward_hook(self._leaving(modes), always_call=True))
        if self._direct:
            self._handles.append(self._model.register_forward_hook(self._returned, always_call=True))

    def detach(self) -> None:
        """Remove every hook."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def _entering(self, path: str, operators: set[str], modes: list[_Watch]) -> Callable[..., None]:
        def enter(_: Any, _args: Any) -> None:
            if self._frame is None:
                raise CaptureError("a captured model must be run by session.run(batch), got a direct call; pass the batch to the session.")
            self._running.append(path)
            modes.append(_Watch(self, path, operators))
            modes[-1].__enter__()

        return enter

    def _leaving(self, modes: list[_Watch]) -> Callable[..., None]:
        def leave(_: Any, _args: Any, _output: Any) -> None:
            if modes:
                modes.pop().__exit__(None, None, None)
                self._running.pop()

        return leave

    def is_innermost(self, path: str) -> bool:
        """Whether no watched module runs inside this one."""
        return bool(self._running) and self._running[-1] == path

    def saw(self, path: str, operator: str, seen: Seen) -> Tensor | None:
        """Tell the observer; what it gives instead of the output, as the model lays it out."""
        site = self._sites[path, operator]
        turn = self._turns[site.name] = self._turns.get(site.name, -1) + 1
        assert self._frame is not None
        call = _call(site, turn, seen, self._batch, self._frame)
        given = self._observer.attention(call)
        if given is None or seen.output is None or call.output is None:
            return None
        if given.shape != call.output.shape:
            raise CaptureError(
                f"the output given for attention at {site.name} must be {tuple(call.output.shape)}, got {tuple(given.shape)}; give a "
                "row of each head for every query."
            )
        return given.to(seen.output.dtype).reshape(seen.output.shape)


class _Watch(TorchFunctionMode):
    """The functions of one module with attention."""

    def __init__(self, session: AttentionSession, path: str, operators: set[str]) -> None:
        super().__init__()
        self._session, self._path, self._operators = session, path, operators
        self._follower = SoftmaxFollower() if "softmax" in operators else None

    def __torch_function__(self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = name_of(func)
        operator = FUSED_ATTENTION.get(name)
        if operator not in self._operators or not self._session.is_innermost(self._path):
            result = func(*args, **kwargs)
            if self._follower is not None and (seen := self._follower.follow(name, args, kwargs, result)) is not None:
                return with_output(result, self._saw("softmax", seen))
            return result
        if operator == "sdpa":
            result = func(*args, **kwargs)
            return with_output(result, self._saw("sdpa", fused(args, kwargs, result)))
        with InsideOneCall(lambda seen: self._saw("mha", seen)):
            return func(*args, **kwargs)

    def _saw(self, operator: str, seen: Seen) -> Tensor | None:
        return self._session.saw(self._path, operator, seen) if self._session.is_innermost(self._path) else None


def _call(site: Site, turn: int, seen: Seen, batch: int, frame: Frame) -> AttentionCall:
    """The call with every tensor as [batch, heads, ...]."""

    def shaped(tensor: Tensor | None) -> Tensor | None:
        return None if tensor is None else by_heads(tensor, batch, site)

    return AttentionCall(
        site=site,
        turn=turn,
        query=shaped(seen.query),
        key=shaped(seen.key),
        value=shaped(seen.value),
        output=shaped(seen.output),
        scale=seen.scale,
        mask=shaped(seen.mask) if seen.query is not None and seen.query.ndim == 3 else _mask_by_heads(seen.mask),
        causal=seen.causal,
        logits=shaped(seen.logits),
        sink=shaped(seen.sink),
        frame=frame,
    )


def by_heads(tensor: Tensor, batch: int, site: Site) -> Tensor:
    """[batch, heads, a, b] of [batch * heads, a, b] or [batch, ..., a, b]; of windows within an image: [batch * windows, heads, a, b]."""
    if tensor.ndim == 3 and tensor.shape[0] % batch == 0:
        return tensor.reshape(batch, tensor.shape[0] // batch, *tensor.shape[1:])
    if tensor.ndim == 5:
        return tensor.flatten(0, 1)
    if tensor.ndim == 4:
        return tensor
    raise CaptureError(
        f"attention at {site.name} must be laid out [batch, heads, positions, width], got {tuple(tensor.shape)} for {batch} examples; "
        f"give a batch of examples along the first axis."
    )


def _mask_by_heads(mask: Tensor | None) -> Tensor | None:
    """[batch or 1, heads or 1, queries or 1, keys]."""
    if mask is None:
        return None
    return mask[None] if mask.ndim == 3 else mask[None, None] if mask.ndim == 2 else mask

"""From a model and its windows to one tally per attention site: what `head_sparsity` sees during the forward passes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.capture.attention import AttentionCall
from analysis.capture.attention_places import AttentionPlace, find_attention, projection_of
from analysis.capture.running import unwrapped
from analysis.capture.site import Frame
from analysis.spec import IncompatibleSubject, UserError
from analysis.stats.attention import HeadTally, Queries, Room

if TYPE_CHECKING:
    from torch import Tensor

WITHOUT_PATTERN = (
    ("state-space layers", ("mamba", "statespace", "ssm", "s4layer", "s4block")),
    ("linear attention", ("linearattention", "deltanet", "rwkv", "retention", "gatedlinear", "performer", "lightningattention")),
)
"""What is said of models without a pattern, told by the names of their modules: only words, no number depends on it."""


def attention_places(subject: Any) -> list[AttentionPlace]:
    """The attention of the subject's model, found on its data. Raises `IncompatibleSubject` where there is none to be seen."""
    batch, _ = next(iter(subject.data.batches(2, subject.device)))
    places = find_attention(subject.model, batch, names=subject.hook_names())
    if not places:
        raise IncompatibleSubject(
            f"{subject.label} must have softmax attention, got {kind_of(subject.model)}: there is no pattern of weights over keys to "
            f"measure; neuron_activity and weight_sparsity can still be run."
        )
    return places


def kind_of(model: Any) -> str:
    """What a model without visible attention has instead, in words."""
    from torch import nn

    names = {type(module).__name__.lower() for module in model.modules()}
    for words, signs in WITHOUT_PATTERN:
        if any(sign in name for sign in signs for name in names):
            return words
    if any(isinstance(module, nn.RNNBase | nn.RNNCellBase) for module in model.modules()):
        return "recurrent layers"
    if any("attention" in name for name in names):
        return "attention that is computed by neither torch's functions nor a softmax (set attn_implementation to sdpa or eager)"
    return "convolutions" if any(isinstance(m, nn.Conv1d | nn.Conv2d | nn.Conv3d) for m in model.modules()) else "layers without attention"


def key_of(place: AttentionPlace) -> tuple[str, int]:
    """What tells places apart."""
    return place.site.name, place.turn


class HeadObserver:
    """Passes every call of attention on to the tally of its place; keeps nothing of the stream's size."""

    def __init__(self, subject: Any, places: Sequence[AttentionPlace], block_elements: int) -> None:
        import torch

        self.places = list(places)
        self._data, self._model, self._elements = subject.data, unwrapped(subject.model), block_elements
        self._threads = torch.get_num_threads()
        room = Room()
        self.tallies = {key_of(p): HeadTally(p.heads, p.width or 0, threads=self._threads, room=room) for p in places}
        self._by_key = {key_of(p): p for p in places}
        self._grams: dict[str, Tensor | None] = {}
        self._windows, self._frame = slice(0, 0), Frame(None)

    def begin(self, windows: slice, frame: Frame) -> None:
        """The next batch holds these windows."""
        self._windows, self._frame = windows, frame

    def attention(self, call: AttentionCall) -> None:
        """Add one call."""
        place = self._by_key.get((call.site.name, call.turn))
        if place is None or call.shape[1] != place.heads:
            raise UserError(
                f"attention at {call.site.hook_name} must run as on the first two windows, got call {call.turn} with "
                f"{call.shape[1]} heads; give inputs of one kind."
            )
        self.tallies[key_of(place)].update(self._queries(place, call), call.blocks(self._elements))

    def _queries(self, place: AttentionPlace, call: AttentionCall) -> Queries:
        batch, _, queries, keys = call.shape
        real = call.real_queries()
        keep = np.ones((batch, queries), bool) if real is None else real.cpu().numpy()
        origin = keep.argmax(1).astype(np.int64)
        special = self._special(place, batch, queries, keys)
        moved, head_norm, output_norm = self._sizes(place, call)
        return Queries(
            keep=keep,
            origin=origin,
            first=origin if not place.crosses else self._first_keys(batch, keys),
            document=self._data.document[self._windows].repeat(max(1, batch // (self._windows.stop - self._windows.start))),
            n_keys=keys,
            is_self=not place.crosses,
            special_queries=None if place.crosses else special,
            special_keys=special,
            moved=moved,
            head_norm=head_norm,
            output_norm=output_norm,
            channels=_channels(place, call, keep),
        )

    def _special(self, place: AttentionPlace, batch: int, queries: int, keys: int) -> np.ndarray | None:
        """[windows, keys]: which keys are special tokens; None where the keys are not the tokens of the text."""
        if self._data.special is None or (not place.crosses and place.site.stream != "input"):
            return None
        found = self._data.special[self._windows]
        return found if found.shape == (batch, keys) and (place.crosses or queries == keys) else None

    def _first_keys(self, batch: int, keys: int) -> np.ndarray:
        mask = self._frame.mask
        return mask.cpu().numpy().argmax(1) if mask is not None and mask.shape == (batch, keys) else np.zeros(batch, np.int64)

    def _sizes(self, place: AttentionPlace, call: AttentionCall) -> tuple[np.ndarray | None, np.ndarray | None, np.ndarray | None]:
        """|v W_O| [windows, heads, keys], |z| and |z W_O| [windows, heads, queries]; None each where it could not be had."""
        batch, heads, queries, keys = call.shape
        output, value = call.output, call.value
        good = output is not None and output.shape[:3] == (batch, heads, queries)
        gram = self._gram(place, output.shape[-1]) if good and output is not None else None
        z = output.float() if good and output is not None else None
        head = None if z is None else z.norm(dim=-1)
        moved = None
        if gram is not None and value is not None and value.shape[2] == keys and heads % value.shape[1] == 0:
            moved = _through(value.float().repeat_interleave(heads // value.shape[1], 1), gram)
        through = None if z is None or gram is None else _through(z, gram)
        return _array(moved), _array(head), _array(through)

    def _gram(self, place: AttentionPlace, width: int) -> Tensor | None:
        """W_O W_O^T by head [heads, width, width]: what lengths after the projection need."""
        if place.site.name not in self._grams:
            weight = projection_of(self._model, place, width)
            self._grams[place.site.name] = None if weight is None else weight @ weight.transpose(1, 2)
        return self._grams[place.site.name]

    def state(self) -> dict[str, np.ndarray]:
        """The tallies' arrays, for a checkpoint."""
        return {f"{i}|{name}": array for i, p in enumerate(self.places) for name, array in self.tallies[key_of(p)].state().items()}


def _through(x: Tensor, gram: Tensor) -> Tensor:
    """|x W| [batch, heads, rows] of x [batch, heads, rows, d], from gram = W W^T [heads, d, d]."""
    return ((x @ gram) * x).sum(-1).clamp_(min=0).sqrt_()


def _array(tensor: Tensor | None) -> np.ndarray | None:
    return None if tensor is None else np.ascontiguousarray(tensor.cpu().numpy())


def _channels(place: AttentionPlace, call: AttentionCall, keep: np.ndarray) -> np.ndarray | None:
    """sum over real tokens of |q_c k_c| [heads, d] (Double Sparsity, C7); None for cross-attention and where q and k were not seen."""
    import torch

    q, k = call.query, call.key
    if place.crosses or q is None or k is None or q.shape[2] != k.shape[2] or q.shape[1] % k.shape[1]:
        return None
    mask = torch.from_numpy(keep).to(q.device)[:, None, :, None]
    products = (q.float() * k.float().repeat_interleave(q.shape[1] // k.shape[1], 1)).abs_() * mask
    return products.sum((0, 2), dtype=torch.float64).cpu().numpy()


def merged(places: Sequence[AttentionPlace], states: Iterator[tuple[str, Mapping[str, np.ndarray]]]) -> dict[tuple[str, int], HeadTally]:
    """One tally per place from the states of all units; any order gives the same."""
    found: dict[tuple[str, int], HeadTally] = {}
    for _, state in states:
        per_place: dict[int, dict[str, np.ndarray]] = {}
        for name, array in state.items():
            i, _, entry = name.partition("|")
            per_place.setdefault(int(i), {})[entry] = array
        for i, arrays in per_place.items():
            part, key = HeadTally.from_state(arrays), key_of(places[i])
            if key in found:
                found[key].merge(part)
            else:
                found[key] = part
    return found

"""From a model and its windows to one tally per attention site: what `head_sparsity` sees during the forward passes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.attention.lengths import Lengths
from analysis.capture.attention import AttentionCall
from analysis.capture.attention_places import AttentionPlace, find_attention
from analysis.capture.running import unwrapped
from analysis.capture.site import Frame
from analysis.spec import IncompatibleSubject, UserError
from analysis.stats.attention import HeadTally, Queries, Room

if TYPE_CHECKING:
    from torch import Tensor

WITHOUT_PATTERN = (
    ("state-space layers", ("mamba", "bambamixer", "statespace", "ssm", "s4layer", "s4block")),
    ("linear attention", ("linearattention", "deltanet", "rwkv", "retention", "gatedlinear", "performer", "lightningattention")),
    ("gated recurrence", ("rglru", "recurrentblock", "griffin", "xlstm", "mlstm", "slstm")),
    ("short convolutions", ("shortconv",)),
)
"""What is said of models without a pattern, told by whole words of their modules' classes: only words, no number depends on it."""
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_LONGEST = 3
"""Words in a sign, at most."""


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

    if (words := _sign_of(model.modules())) is not None:
        return words
    if any(isinstance(module, nn.RNNBase | nn.RNNCellBase) for module in model.modules()):
        return "recurrent layers"
    if any("attention" in type(module).__name__.lower() for module in model.modules()):
        return "attention that is computed by neither torch's functions nor a softmax (set attn_implementation to sdpa or eager)"
    return "convolutions" if any(isinstance(m, nn.Conv1d | nn.Conv2d | nn.Conv3d) for m in model.modules()) else "layers without attention"


def without_pattern(model: Any, places: Sequence[AttentionPlace]) -> str | None:
    """Which blocks of the model have no pattern to measure, or one beside something that has none, and what that is; None without such.

    For hybrid models: ``model.layers 0 to 2, 4 (state-space layers)``. Blocks are the entries of lists that hold attention.
    """
    from torch import nn

    seen = {p.site.module for p in places}
    found: dict[tuple[str, str], list[int]] = {}
    for path, blocks in unwrapped(model).named_modules():
        if not isinstance(blocks, nn.ModuleList) or not any(name.startswith(f"{path}.") for name in seen):
            continue
        for i, block in enumerate(blocks):
            has = any(name == f"{path}.{i}" or name.startswith(f"{path}.{i}.") for name in seen)
            kind = _beside(block) if has else kind_of(block)
            if kind is not None:
                found.setdefault((path, kind), []).append(i)
    return "; ".join(f"{path} {_ranges(blocks)} ({kind})" for (path, kind), blocks in found.items()) or None


def _beside(block: Any) -> str | None:
    """What else than attention mixes tokens in a block; None where nothing known does."""
    words = _sign_of(module for module in block.modules() if module is not block)
    return None if words is None else f"{words} beside attention"


def _sign_of(modules: Iterable[Any]) -> str | None:
    """The first of `WITHOUT_PATTERN` that the class of a module is called by; GptOssMLP holds an ssm in its letters, not its words."""
    found: set[str] = set()
    for name in {type(module).__name__ for module in modules}:
        words = [word.lower() for word in _WORD.findall(name)]
        found |= {"".join(words[i : i + n]) for i in range(len(words)) for n in range(1, _LONGEST + 1)}
    return next((words for words, signs in WITHOUT_PATTERN if found & set(signs)), None)


def _ranges(numbers: Sequence[int]) -> str:
    """``0 to 2, 4`` of 0, 1, 2, 4."""
    starts = [n for n in numbers if n - 1 not in numbers]
    ends = [n for n in numbers if n + 1 not in numbers]
    return ", ".join(str(a) if a == b else f"{a} to {b}" for a, b in zip(starts, ends, strict=True))


def key_of(place: AttentionPlace) -> tuple[str, int]:
    """What tells places apart."""
    return place.site.name, place.turn


def place_of(by_key: Mapping[tuple[str, int], AttentionPlace], call: AttentionCall) -> AttentionPlace:
    """The place this call belongs to; raises `UserError` for a call that the first two windows did not have."""
    place = by_key.get((call.site.name, call.turn))
    if place is None or call.shape[1] != place.heads:
        raise UserError(
            f"attention at {call.site.hook_name} must run as on the first two windows, got call {call.turn} with "
            f"{call.shape[1]} heads; give inputs of one kind."
        )
    return place


class HeadObserver:
    """Passes every call of attention on to the tally of its place; keeps nothing of the stream's size."""

    def __init__(self, subject: Any, places: Sequence[AttentionPlace], block_elements: int) -> None:
        import torch

        self.places = list(places)
        self._data, self._elements, self._lengths = subject.data, block_elements, Lengths(subject.model)
        self._threads = torch.get_num_threads()
        room = Room()
        self.tallies = {key_of(p): HeadTally(p.heads, p.width or 0, threads=self._threads, room=room) for p in places}
        self._by_key = {key_of(p): p for p in places}
        self._windows, self._frame = slice(0, 0), Frame(None)

    def begin(self, windows: slice, frame: Frame) -> None:
        """The next batch holds these windows."""
        self._windows, self._frame = windows, frame

    def attention(self, call: AttentionCall) -> None:
        """Add one call."""
        place = place_of(self._by_key, call)
        self.tallies[key_of(place)].update(self._queries(place, call), call.blocks(self._elements))

    def _queries(self, place: AttentionPlace, call: AttentionCall) -> Queries:
        batch, _, queries, keys = call.shape
        real = call.real_queries()
        keep = np.ones((batch, queries), bool) if real is None else real.cpu().numpy()
        origin = keep.argmax(1).astype(np.int64)
        special = self._special(place, batch, queries, keys)
        moved, head_norm, output_norm = map(_array, self._lengths.of(place, call))
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
            learned_sink=_array(call.sink_mass()),
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

    def state(self) -> dict[str, np.ndarray]:
        """The tallies' arrays, for a checkpoint."""
        return {f"{i}|{name}": array for i, p in enumerate(self.places) for name, array in self.tallies[key_of(p)].state().items()}


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

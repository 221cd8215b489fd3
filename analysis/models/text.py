"""Text as windows of tokens: all of one length, no padding, never across documents, spread over as many documents as possible.

1. Documents are visited in a seeded order and tokenised when first visited. Each is cut into windows that do not overlap, from a
   seeded offset on; what is left over is dropped and counted. Special tokens that the tokenizer adds count towards the length.
2. Round robin: every visited document gives one window per round, in its own seeded order, until there are enough tokens. A
   window with the same tokens as an earlier one is dropped and counted. Asking for more tokens only adds windows.
3. The windows are put in order of document and place.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.models.documents import Document, open_documents
from analysis.models.fingerprints import digest
from analysis.models.loading import CAUSAL, SEQ2SEQ, quiet
from analysis.models.pieces import added_tokens, pieces, reserved_ids
from analysis.spec import UserError

if TYPE_CHECKING:
    from analysis.models.opening import Progress

CAUSAL_INPUTS = ("input_ids",)


@dataclass(eq=False)
class TextWindows:
    """Windows of tokens with where each comes from."""

    name: str
    token_ids: np.ndarray = field(repr=False)
    """int64 [n_windows, window]."""
    document: np.ndarray = field(repr=False)
    """int64 [n_windows]: index into `documents`."""
    start: np.ndarray = field(repr=False)
    """int64 [n_windows]: offset of the first content token in its document, in tokens."""
    special: np.ndarray = field(repr=False)
    """bool [n_windows, window]: tokens the tokenizer added or reserves (``[CLS]``, end of text); the unknown token is content."""
    documents: list[str] = field(repr=False)
    """Names of the documents that gave windows."""
    counts: dict[str, int]
    settings: dict[str, Any]
    inputs: tuple[str, ...] = CAUSAL_INPUTS
    """What a batch holds, by the names of the model's arguments; where empty, a batch is the tensor of ids itself."""
    token_strings: dict[int, str] = field(default_factory=dict, repr=False)
    """For each token id in the windows its exact piece of text; bytes that are no character alone as ``\\xe2``."""
    labels: np.ndarray | None = field(default=None, repr=False)
    """int64 [n_windows]: the class of each window, where windows are examples that have one."""
    fingerprint: str = ""

    def __post_init__(self) -> None:
        if not self.fingerprint:
            arrays = [self.token_ids, self.document, self.start, self.special]
            arrays += [] if self.labels is None else [self.labels]
            # Not the collection's name: the same text in another place is the same data.
            settings = sorted((key, value) for key, value in self.settings.items() if key != "data")
            head = repr((settings, self.inputs, self.token_ids.shape)).encode()
            self.fingerprint = digest([head, *(np.ascontiguousarray(a).data for a in arrays)])

    @property
    def n_windows(self) -> int:
        """Number of windows."""
        return self.token_ids.shape[0]

    @property
    def window(self) -> int:
        """Length of a window, in tokens."""
        return self.token_ids.shape[1]

    @property
    def facts(self) -> dict[str, Any]:
        """Counts and settings, as JSON."""
        return {**self.settings, **self.counts}

    def parts(self, n_windows: int) -> list[slice]:
        """The windows in consecutive parts of ``n_windows``: the pieces of work that are committed one by one."""
        return [slice(i, min(i + n_windows, self.n_windows)) for i in range(0, self.n_windows, n_windows)]

    def batches(self, batch_size: int, device: str = "cpu", within: slice | None = None) -> Iterator[tuple[Any, slice]]:
        """Batches for the model, each with the windows it holds; of all windows, or of a part. Masks are all ones: no padding.

        An encoder-decoder reads the same window on both sides.
        """
        import torch

        ids = torch.from_numpy(self.token_ids)
        within = within or slice(0, self.n_windows)
        for first in range(within.start, within.stop, batch_size):
            part = slice(first, min(first + batch_size, within.stop))
            here = ids[part].to(device)
            named = {name: torch.ones_like(here) if "mask" in name else here for name in self.inputs}
            yield named or here, part

    def only(self, windows: np.ndarray) -> TextWindows:
        """The windows at these positions; documents keep their numbers."""
        labels = None if self.labels is None else self.labels[windows]
        kept = {name: getattr(self, name)[windows] for name in ("token_ids", "document", "start", "special")}
        sizes = {"n_windows": len(windows), "n_tokens": kept["token_ids"].size, "n_documents": len(np.unique(kept["document"]))}
        return replace(self, **kept, labels=labels, counts=self.counts | sizes, fingerprint="")

    @classmethod
    def from_ids(cls, token_ids: Any, *, name: str = "given windows", document: Any = None, **more: Any) -> TextWindows:
        """Windows that somebody else made: ids [n_windows, window], each its own document unless told."""
        ids = np.ascontiguousarray(np.asarray(token_ids), dtype=np.int64)
        own = np.arange(len(ids)) if document is None else np.asarray(document)
        own = own.astype(np.int64)
        names = [f"document {i}" for i in range(int(own.max(initial=-1)) + 1)]
        counts = {"n_windows": len(ids), "n_tokens": int(ids.size), "n_documents": len(np.unique(own))}
        empty = {"start": np.zeros(len(ids), np.int64), "special": np.zeros(ids.shape, bool), "settings": {}}
        return cls(name, ids, own, documents=names, counts=counts, **(empty | more))


@dataclass
class _Reader:
    """A document that has been tokenised and cut: windows still to give, the last one first."""

    index: int
    content: np.ndarray
    starts: list[int]


def text_windows(
    data: str,
    tokenizer: Any,
    *,
    n_tokens: int,
    window: int,
    seed: int,
    limit: int | None = None,
    task: str | None = None,
    progress: Progress | None = None,
) -> TextWindows:
    """Windows of ``window`` tokens from DATA, at least ``n_tokens`` in all where the text has as many.

    Raises `UserError` where the window is longer than the model takes or than every document.
    """
    prefix, suffix = added_tokens(tokenizer)
    width = window - len(prefix) - len(suffix)
    if limit is not None and window > limit:
        raise UserError(f"the window must be at most the {limit} positions of this model, got {window}; set a shorter window.")
    if width < 1:
        raise UserError(f"the window must be longer than the {window - width} special tokens in each, got {window}; set a longer one.")
    name, documents = open_documents(data)
    cutter = _Cutter(documents, tokenizer, width, len(prefix) + len(suffix), seed)
    wanted = max(1, math.ceil(n_tokens / window))
    chosen = cutter.choose(wanted, progress)
    if not chosen:
        cutter.refuse(window)
    settings = {"data": name, "n_tokens_wanted": n_tokens, "window": window, "seed": seed}
    used = sorted({index for index, _, _ in chosen})
    chosen.sort(key=lambda c: c[:2])
    ids = np.stack([np.concatenate([prefix, content, suffix]) for _, _, content in chosen]).astype(np.int64)
    special = np.isin(ids, sorted(reserved_ids(tokenizer)))
    special[:, : len(prefix)] = True
    special[:, window - len(suffix) :] = True
    counts = {
        "n_windows": len(chosen),
        "n_tokens": int(ids.size),
        "n_documents": len(used),
        "n_documents_total": len(documents),
        **cutter.counts,
    }
    return TextWindows(
        name,
        ids,
        document=np.searchsorted(used, [index for index, _, _ in chosen]).astype(np.int64),
        start=np.array([start for _, start, _ in chosen], dtype=np.int64),
        special=special,
        documents=[documents[index].name for index in used],
        counts=counts,
        settings=settings,
        inputs=model_inputs(task),
        token_strings=pieces(tokenizer, np.unique(ids)),
    )


def model_inputs(task: str | None) -> tuple[str, ...]:
    """Names of what a batch holds. A causal model needs no mask where nothing is padded, and runs faster without."""
    more = {CAUSAL: (), SEQ2SEQ: ("attention_mask", "decoder_input_ids")}
    return CAUSAL_INPUTS + more.get(task or "", ("attention_mask",))


class _Cutter:
    """Visits documents and takes windows from them; see the module's docstring."""

    def __init__(self, documents: Sequence[Document], tokenizer: Any, width: int, n_added: int, seed: int) -> None:
        self._documents, self._tokenizer, self._width, self._n_added, self._seed = documents, tokenizer, width, n_added, seed
        self._longest = 0
        self.counts = {"n_documents_read": 0, "n_too_short": 0, "n_duplicates": 0, "n_tokens_left_over": 0}

    def choose(self, wanted: int, progress: Progress | None) -> list[tuple[int, int, np.ndarray]]:
        """Up to ``wanted`` windows as (document, start, content ids)."""
        chosen: list[tuple[int, int, np.ndarray]] = []
        seen: set[bytes] = set()
        readers: Any = self._read_all()
        while len(chosen) < wanted:
            still = []
            for reader in readers:
                window = self._take(reader, seen)
                if window is not None:
                    chosen.append(window)
                    still.append(reader)
                if progress is not None and len(chosen) % 64 == 0:
                    progress("cutting text into windows", len(chosen), wanted)
                if len(chosen) == wanted:
                    break
            if not still:
                break
            readers = still
        return chosen

    def _read_all(self) -> Iterator[_Reader]:
        order = np.random.default_rng(self._seed).permutation(len(self._documents))
        for index in order.tolist():
            with quiet():
                text = self._documents[index].read()
                ids = self._tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
            content = np.asarray(ids, dtype=np.int64)
            self.counts["n_documents_read"] += 1
            self._longest = max(self._longest, len(content))
            n_windows, rest = divmod(len(content), self._width)
            if not n_windows:
                self.counts["n_too_short"] += 1
                continue
            self.counts["n_tokens_left_over"] += rest
            random = np.random.default_rng([self._seed, index])
            offset = int(random.integers(0, rest + 1))
            starts = [offset + self._width * i for i in random.permutation(n_windows).tolist()]
            yield _Reader(index, content, starts)

    def _take(self, reader: _Reader, seen: set[bytes]) -> tuple[int, int, np.ndarray] | None:
        """The reader's next window that has not been seen; None where it has none left."""
        while reader.starts:
            start = reader.starts.pop()
            content = reader.content[start : start + self._width]
            key = content.tobytes()
            if key not in seen:
                seen.add(key)
                return reader.index, start, content
            self.counts["n_duplicates"] += 1
        return None

    def refuse(self, window: int) -> None:
        """Raise the sentence for text in which no document fills a window."""
        if not self._longest:
            raise UserError("the text must not be empty, got no token in any document; give some text.")
        got = self._longest + self._n_added
        raise UserError(f"the text must be at least {window} tokens, got {got}; give a longer text or set window=… to fewer.")

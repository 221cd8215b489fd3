"""Subject: a model, its inputs and its task, with a fingerprint of each; loaded when first used."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from analysis.models.inputs.reads import Reads
from analysis.models.tensors import TensorInfo

if TYPE_CHECKING:
    import torch

    from analysis.models.batches import Data
    from analysis.models.parity import Parity


@dataclass(frozen=True)
class Checkpoint:
    """One step of a series: opened when it is asked for, and anew each time, so that no more of them are held than are used."""

    step: int
    name: str
    """Of its file or folder."""
    source: str
    fingerprint: str
    """Of its weights, as its own subject has it."""
    open: Callable[[], Subject] = field(repr=False, compare=False)


@dataclass(eq=False)
class Subject:
    """What is analysed. Made by `open_subject` or `subject_from`."""

    name: str
    """Short name, as typed."""
    label: str
    """Shown to people, e.g. ``SmolLM2-135M-Instruct (dequantised Q4_1)``."""
    source: str
    """Path, package or hub id."""
    task: str | None
    """``causal-lm``, ``masked-lm``, ``seq2seq-lm``, ``encoder``; None for other heads and where only weights are known."""
    dtype: str
    device: str
    fingerprints: dict[str, str]
    """``weights``, and where there are any ``tokenizer`` and ``data``."""
    facts: dict[str, Any]
    """As JSON: n_parameters (tied ones once), architecture, context_length, n_layers, tied, notes."""
    data: Data | None = field(default=None, repr=False)
    reads: Reads = field(default_factory=Reads, repr=False)
    """What the model reads and what its head tells apart."""
    loss: Callable[[Any, Any], Any] | None = field(default=None, repr=False)
    """Of a factory that brought one: loss(output, batch), one number per example."""
    load_model: Callable[[], torch.nn.Module] = field(default=lambda: NotImplemented, repr=False)
    load_tokenizer: Callable[[], Any] = field(default=lambda: None, repr=False)
    list_tensors: Callable[[], Iterator[TensorInfo]] = field(default=lambda: iter(()), repr=False)
    series: tuple[Checkpoint, ...] = ()
    """The checkpoints of a series, by step; empty for a model. A series has no model and no tensors of its own: both refuse."""
    _kept: dict[str, Any] = field(default_factory=dict, repr=False)

    @property
    def model(self) -> torch.nn.Module:
        """The model in eval mode, on `device`; loaded on first use. Raises `UserError` where only weights are known."""
        return self._keep("model", self.load_model)

    @property
    def is_loaded(self) -> bool:
        """Whether the model is in memory already."""
        return "model" in self._kept

    @property
    def tokenizer(self) -> Any | None:
        """The tokenizer, loaded on first use; None where there is none."""
        return self._keep("tokenizer", self.load_tokenizer)

    def tensors(self) -> Iterator[TensorInfo]:
        """The model's weights, one at a time and tied ones once, without loading the model where its files can be read."""
        return self.list_tensors()

    def probe_batch(self) -> Any:
        """Two tiny seeded examples for the model, made without data where its config says what it reads (`probing`)."""
        from analysis.models.probing import probe_batch

        return probe_batch(self)

    def token_pieces(self) -> list[str] | None:
        """The exact piece of text of every id the model embeds, by id; None where there is no tokenizer or no embedding of tokens."""
        from analysis.models.pieces import vocabulary

        return self._keep("pieces", lambda: vocabulary(self.model, self.tokenizer))

    def bridge_parity(self) -> Parity:
        """Whether TransformerLens' bridge computes what the model computes, in numbers and in words (`parity`)."""
        from analysis.models.parity import bridge_parity

        return self._keep("parity", lambda: bridge_parity(self))

    def hook_names(self) -> dict[str, str]:
        """Module path to the canonical TransformerLens name of the FFN inner activation entering it; the model is not touched.

        Empty where the bridge does not know the model: `hook_reason` then says why.
        """
        return self._names()[0]

    @property
    def hook_reason(self) -> str | None:
        """Why there are no canonical names, in a sentence; None where there are."""
        return self._names()[1]

    def _names(self) -> tuple[dict[str, str], str | None]:
        from analysis.models.hooks import canonical_names

        return self._keep("names", lambda: canonical_names(self.model))

    def _keep(self, what: str, make: Callable[[], Any]) -> Any:
        if what not in self._kept:
            self._kept[what] = make()
        return self._kept[what]

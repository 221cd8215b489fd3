"""A reconstruction, or an ablation, in place of what flows at a place: interventions like any other, each a point without a continuum.

    arm = Reconstruction.of(dictionary, place, mask=Mask.of(subject, dictionary))
    with arm.on(subject) as held:
        held.at(1.0)                       # from now on every pass of the model has the reconstruction at that place
        evaluation.measure()

All arms of a comparison get the same `Mask`: at special tokens, positions that training left out, and padding the values stay as they are
in every arm, so that a dictionary that gives zeros scores as zero ablation does, exactly (METHODS D4).
Level 0 is the model as it was, level 1 everything replaced.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from analysis.interventions.spec import Applied, Calibration, Cost, Held, Intervention, InterventionKind, Target, check_level
from analysis.latents.masking import Mask
from analysis.spec import Source, UserError

if TYPE_CHECKING:
    from torch import Tensor

    from analysis.latents.dictionary import Dictionary
    from analysis.latents.places import Place

LEVELS = (0.0, 1.0)
_D4 = Source("Loss with a reconstruction spliced in, and with zero ablation", "SAELens, dictionary_learning, attention-output-saes", "C")
_MEAN = Source("Mean ablation at the same place", "the stricter arm", "O")


@dataclass(frozen=True)
class Splice(Intervention):
    """Values at a place replaced on every judged token: what `Reconstruction` and `Ablation` have in common."""

    place: Place
    mask: Mask = field(default_factory=Mask, kw_only=True)
    """Which tokens are replaced; the values of all others stay."""

    target: ClassVar[Target] = "activations"

    @property
    def kind(self) -> InterventionKind:
        """Levels 0 and 1 only."""
        return "point"

    @property
    def what(self) -> str:
        """What stands in place of the values, for slug and title."""
        raise NotImplementedError

    @property
    def slug(self) -> str:
        """With what it puts there, the place, and which tokens are spared."""
        return f"{self.what} at {self.place.hook_name}, {self.mask.words}"

    @property
    def title(self) -> str:
        """For lists."""
        return f"{self.what[:1].upper()}{self.what[1:]} at {self.place.hook_name}"

    @contextlib.contextmanager
    def on(self, subject: Any, calibration: Calibration | None = None) -> Iterator[HeldSplice]:  # noqa: ARG002 - needs none
        """Hold the model; nothing is replaced until a level is asked for."""
        with contextlib.ExitStack() as undo:
            yield HeldSplice(self, subject.model, undo)

    def replacing(self, counted: Counted) -> list[tuple[Place, Callable[[Tensor, Tensor], Tensor]]]:
        """Places and what is done there with values [n, width] and their rows [n], in the order of the places."""
        raise NotImplementedError


@dataclass
class Counted:
    """What a held splice has replaced since it was put at its level."""

    n_replaced: int = 0
    n_kept: int = 0
    n_active: int = 0
    """Latents active on the replaced tokens."""
    kept: Tensor | None = None
    """Of the batch that is running: which rows of its flattened stream stay; None where all are replaced."""

    def put(self, values: Tensor, rows: Tensor, new: Tensor) -> Tensor:
        """The new values, but the old ones on the rows that stay."""
        import torch

        if self.kept is None:
            self.n_replaced += len(rows)
            return new
        stays = self.kept.to(rows.device)[rows]
        n = int(stays.sum())
        self.n_kept, self.n_replaced = self.n_kept + n, self.n_replaced + len(rows) - n
        return torch.where(stays[:, None], values, new)

    def replaced(self, rows: Tensor) -> Tensor:
        """Which of these rows are replaced."""
        import torch

        return torch.ones_like(rows, dtype=torch.bool) if self.kept is None else ~self.kept.to(rows.device)[rows]


class HeldSplice(Held):
    """A model with a place that can be replaced."""

    def __init__(self, splice: Splice, model: Any, undo: contextlib.ExitStack) -> None:
        self._splice, self._model, self._undo, self._level = splice, model, undo, 0.0
        self.levels = LEVELS
        self.counted = Counted()
        self.facts: Mapping[str, Any] = {"method": splice.what, "place": splice.place.hook_name, "mask": splice.mask.words}

    def at(self, level: float) -> Applied:
        """Level 0: the model as it was; level 1: every judged token replaced."""
        if check_level(level) not in LEVELS:
            raise UserError(f"the level of {self._splice.title} must be 0 or 1, got {level!r}; it has no continuum.")
        self._undo.close()
        self.counted, self._level = Counted(), level
        if level:
            self._attach()
        native, unit = self._native() if level else (None, None)
        where = f"token positions at {self._splice.place.hook_name} ({self._splice.mask.words})"
        return Applied(level, level, where, native, unit)

    def cost(self, level: float) -> Cost:
        """No weights go; what was counted since `at`, as facts: L0, tokens replaced and kept."""
        counted = self.counted
        facts: dict[str, Any] = {"n_replaced": counted.n_replaced, "n_kept": counted.n_kept}
        if counted.n_active:
            facts["l0"] = counted.n_active / max(1, counted.n_replaced)
        return Cost(level, layout="activations", facts=facts)

    def _native(self) -> tuple[float | None, str | None]:
        l0 = getattr(self._splice, "l0", None)
        return (None, None) if l0 is None else (l0, "latents per token")

    def _attach(self) -> None:
        from analysis.latents.places import changing

        self._undo.enter_context(_watching_ids(self._model, self._splice, self.counted))
        for place, change in self._splice.replacing(self.counted):
            self._undo.enter_context(changing(self._model, place, change))


@contextlib.contextmanager
def _watching_ids(model: Any, splice: Splice, counted: Counted) -> Iterator[None]:
    """Before each pass, find which rows of its stream stay as they are."""
    from analysis.capture.running import hooked, unwrapped

    name = "decoder_input_ids" if splice.place.site.stream == "decoder" else "input_ids"

    def before(_: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        ids = kwargs.get(name, args[0] if args else None)
        counted.kept = None
        if ids is not None and not ids.is_floating_point():
            kept = ~splice.mask.judged(ids).reshape(-1)
            counted.kept = kept if bool(kept.any()) else None

    with hooked([unwrapped(model).register_forward_pre_hook(before, with_kwargs=True)]):
        yield


# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Reconstruction(Splice):
    """What a dictionary makes of the values, in their place; of a transcoder, at the place it predicts."""

    label: str
    """What reconstructs, for slugs and titles."""
    both: Callable[[Tensor], tuple[Tensor, Tensor]] = field(repr=False)
    """Values [n, width] in float32 to latents [n, F] and what they stand for [n, width]."""
    reads: Place | None = field(default=None, kw_only=True)
    """Where a transcoder reads; None for what reconstructs its own input."""
    l0: float | None = field(default=None, kw_only=True)
    """Latents active per token, where known beforehand: the native value of the point."""

    @classmethod
    def of(
        cls,
        dictionary: Dictionary,
        place: Place,
        out: Place | None = None,
        *,
        mask: Mask | None = None,
        l0: float | None = None,
    ) -> Reconstruction:
        """A dictionary at its place; ``out``: of a transcoder, the place it predicts."""
        if dictionary.transcoder != (out is not None):
            raise UserError(
                f"the place that {dictionary.label} predicts must be given exactly where it is a transcoder, got "
                f"{'none' if out is None else out.hook_name}; give the place named {dictionary.out_hook_name or dictionary.hook_name}."
            )
        reads = None if out is None else place
        return cls(out or place, dictionary.label, dictionary.both, mask=mask or Mask(), reads=reads, l0=l0)

    @property
    def what(self) -> str:
        """By its label."""
        return f"reconstruction by {self.label}"

    @property
    def sources(self) -> tuple[Source, ...]:
        """METHODS D4."""
        return (_D4,)

    def replacing(self, counted: Counted) -> list[tuple[Place, Callable[[Tensor, Tensor], Tensor]]]:
        """Encode and decode at the place; of a transcoder, keep what it reads until the place it predicts runs."""
        held: dict[str, Tensor] = {}

        def keep(values: Tensor, rows: Tensor) -> Tensor:  # noqa: ARG001 - the contract of `changing`
            held["x"] = values
            return values

        def put(values: Tensor, rows: Tensor) -> Tensor:
            latents, made = self.both((held["x"] if self.reads is not None else values).float())
            counted.n_active += int((latents[counted.replaced(rows)] != 0).sum())
            return counted.put(values, rows, made.to(values))

        here = [(self.place, put)]
        return here if self.reads is None else [(self.reads, keep), *here]


@dataclass(frozen=True)
class Ablation(Splice):
    """Zeros in place of the values, or one vector, such as their mean, on every token."""

    value: Tensor | None = field(default=None, repr=False)
    """[width]; None for zeros."""

    @property
    def what(self) -> str:
        """Zero or mean."""
        return "zero ablation" if self.value is None else "mean ablation"

    @property
    def sources(self) -> tuple[Source, ...]:
        """METHODS D4."""
        return (_D4,) if self.value is None else (_MEAN,)

    def replacing(self, counted: Counted) -> list[tuple[Place, Callable[[Tensor, Tensor], Tensor]]]:
        """The same vector everywhere."""
        import torch

        def put(values: Tensor, rows: Tensor) -> Tensor:
            new = torch.zeros_like(values) if self.value is None else self.value.to(values).expand_as(values)
            return counted.put(values, rows, new)

        return [(self.place, put)]

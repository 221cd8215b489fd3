"""Losses of a model with a few weights changed, restarted from the stored input of the block they are in.

1. The dense model runs once: its losses, in which order its repeated blocks run, and the forms of what they give.
2. Changing block b leaves blocks before b as they were. They are skipped: each gives zeros of the right form, the last one of every
   finished list of blocks (an encoder's) what it gave. Where block b is entered, what depends on skipped blocks is replaced by what was
   stored there. All of it is the model's own forward, which makes positions, masks and caches.
3. What depends on skipped blocks is found by comparing: inputs of b that come out the same although earlier blocks gave zeros do not.
4. Inputs of one block are held at a time; those of the next come from a pass that starts at the one held and ends at the next.
5. Several versions lie along the batch (`stacking`).

On the first batch a restart must give the dense loss, and the first candidate of each kind the loss of full passes, to `TOLERANCE`.
Where it does not, full passes are taken, or versions run one by one, and `facts` say so. Source: ours; SENSITIVITY 8.4.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from analysis.capture.operators import tensors_in
from analysis.capture.running import hooked, observable, run
from analysis.interventions.held_blocks import HeldBlocks
from analysis.interventions.measuring import KEPT_BYTES
from analysis.interventions.stacking import CannotStack, Change, mapped, repeated, stacked
from analysis.tasks import Losses, Task, TaskBatch
from analysis.tasks.losses import largest_gap
from analysis.tasks.objectives import answer_of

if TYPE_CHECKING:
    from torch import Tensor, nn

TOLERANCE = 1e-5
"""Largest difference of an example's mean loss, of float32, relative where the loss is above 1."""
TOLERANCE_HALF = 0.02
"""The same of 16-bit types, whose sums hang on the size of the batch."""
STACK = 3
STACKED, ONE_BY_ONE, FULL = "stacked", "one by one", "by full passes"

Report = Callable[[float], None]


class _Reached(Exception):  # noqa: N818 - no error: a pass ends where it has given what it is for
    """The block was entered."""


class Restarting:
    """A task on a model, measured with other values of a few weights."""

    def __init__(
        self, model: nn.Module, task: Task, batch_size: int, blocks: Sequence[str] = (), *, stack: int = STACK, restart: bool = True
    ) -> None:
        """``blocks``: paths of repeated blocks, in any order. ``stack``: versions in a pass. ``restart=False``: full passes only."""
        from analysis.capture.fitting import Fitting

        self._model, self._task, self._most, self._restart = model, task, 1 if task.name == "own" else stack, restart
        self._asked = tuple(blocks)
        self._fitting = Fitting(max(self._most, batch_size))
        half = any(p.element_size() < 4 for p in model.parameters() if p.is_floating_point())  # noqa: PLR2004 - bytes of float32
        self._tolerance = TOLERANCE_HALF if half else TOLERANCE
        self.passes = 0
        """Forward passes begun, partial ones included."""
        self.facts: dict[str, Any] = {"tolerance": self._tolerance, "restart": restart, "fallbacks": []}
        self._divide(self._fitting.size)

    def _divide(self, rows: int) -> None:
        """Batches of so many rows with all versions, and nothing known of them yet."""
        self._rows, self._stack = rows, min(self._most, rows)
        self.facts["stack"] = self._stack
        self._batches: list[TaskBatch] = list(self._task.batches(rows // self._stack))
        self._examples = [batch.positions.stop - batch.positions.start for batch in self._batches]
        self._held = HeldBlocks(self._model, self._examples)
        self._references: list[Any] = []
        self._dense: list[Losses] = []
        self._trusted: dict[str, str] = {}
        self._tried: set[str] = set()
        self._refused: set[int] = set()

    @property
    def blocks(self) -> tuple[str, ...]:
        """In the order they run; those that cannot be skipped are not among them."""
        return self._held.blocks

    # -- dense --------------------------------------------------------------------------------------------------------

    def dense(self, report: Report = lambda share: None) -> Losses:
        """Step 1. To be called before anything is measured."""
        return self._fitting(lambda rows: self._of_dense(rows, report))

    def _of_dense(self, rows: int, report: Report = lambda share: None) -> Losses:
        if rows != self._rows or self._dense:
            self._divide(rows)
        order: list[str] = []
        counts = dict.fromkeys(self._asked, 0)
        outputs: dict[str, Any] = {}

        def left(path: str, _: Any, __: Any, output: Any) -> None:
            order.append(path)
            counts[path] += 1
            outputs[path] = output

        for number, batch in enumerate(self._batches):
            order.clear()
            outputs.clear()
            with ExitStack() as undo:
                undo.enter_context(observable(self._model))
                for path in self._asked:
                    undo.callback(self._model.get_submodule(path).register_forward_hook(partial(left, path)).remove)
                output = self._pass(batch.inputs)
            if self._task.is_divergence:
                answer = answer_of(output)
                self._references.append(answer.clone() if answer.nbytes * len(self._batches) <= KEPT_BYTES else None)
            self._dense += self._scores(output, number, 1)
            if number == 0:
                self._order(order, counts)
            self._held.keep_forms(outputs)
            report((number + 1) / len(self._batches))
        return Losses.joined(self._dense)

    def _order(self, order: Sequence[str], counts: Mapping[str, int]) -> None:
        several = [path for path in self._asked if counts[path] != 1]
        if several:
            self._say(f"{several[0]} ran {counts[several[0]]} times in a pass: full passes instead of restarts")
        self._held.blocks = () if several or not self._restart else tuple(order)

    # -- measuring ----------------------------------------------------------------------------------------------------

    def measure(self, changes: Sequence[Change], block: str | None = None, report: Report = lambda share: None) -> list[Losses]:
        """Losses with each version of the weights, all of them inside ``block`` (None: anywhere, by full passes)."""

        def measured(rows: int) -> list[Losses]:
            if rows != self._rows:  # what is held is of batches that do not fit
                self._of_dense(rows)
            return self._measured(changes, block, report)

        return self._fitting(measured)

    def _measured(self, changes: Sequence[Change], block: str | None, report: Report) -> list[Losses]:
        start = self.blocks.index(block) if block in self.blocks else None
        if start is not None and not self._enter(start):
            start = None
        kind = re.sub(r"\d+", "#", " ".join(sorted(changes[0])))
        found: list[list[Losses]] = [[] for _ in changes]
        with observable(self._model):
            for number in range(len(self._batches)):
                measure = self._measure if number else self._verified
                for parts, one in zip(found, measure(kind, number, changes, start)):
                    parts.append(one)
                report((number + 1) / len(self._batches))
        return [Losses.joined(parts) for parts in found]

    def _measure(self, kind: str, number: int, changes: Sequence[Change], start: int | None) -> list[Losses]:
        how = self._trusted.get(kind, STACKED)
        start, size = (None if how == FULL else start), (self._stack if how == STACKED else 1)
        found: list[Losses] = []
        for first in range(0, len(changes), size):
            some = changes[first : first + size]
            try:
                found += self._scored(number, some, start)
            except CannotStack:
                if number == 0 and kind not in self._tried:
                    raise
                # Trusted before: an expert that no example of this batch was sent to.
                found += [one for change in some for one in self._scored(number, [change], start)]
        return found

    def _scored(self, number: int, changes: Sequence[Change], start: int | None) -> list[Losses]:
        n, batch = len(changes), self._batches[number]
        with stacked(self._model, changes), self._held.starting(start, number, n):
            output = self._pass(mapped(batch.inputs, lambda t: repeated(t, self._examples[number], n)))
        return self._scores(output, number, n)

    def _verified(self, kind: str, number: int, changes: Sequence[Change], start: int | None) -> list[Losses]:
        """The first batch, beside full passes for a kind of candidate that has not been tried."""
        is_plain = start is None and (self._stack == 1 or len(changes) == 1)
        if self._trusted.get(kind) == FULL or kind in self._tried or is_plain:
            return self._measure(kind, number, changes, start)
        beside = slice(max(0, min(self._stack, len(changes)) - 2), min(self._stack, len(changes)))  # the highest two of one pass
        naive = [self._scored(number, [change], None)[0] for change in changes[beside]]
        for how in (STACKED, ONE_BY_ONE):
            self._trusted[kind] = how
            try:
                found = self._measure(kind, number, changes, start)
            except CannotStack as error:
                self._say(f"{kind}: versions run one by one, since {error}")
                continue
            if self._agree(found[beside], naive):
                if all(self._agree([one], self._dense[:1]) for one in naive):
                    del self._trusted[kind]  # changes without an effect prove nothing
                else:
                    self._tried.add(kind)
                return found
            self._say(f"{kind}: {how}, the loss is not that of full passes")
        self._trusted[kind] = FULL
        return self._measure(kind, number, changes, start)

    def _agree(self, found: Sequence[Losses], other: Sequence[Losses]) -> bool:
        return all(largest_gap(one, two) <= self._tolerance for one, two in zip(found, other))

    # -- restarting ---------------------------------------------------------------------------------------------------

    def _enter(self, block: int) -> bool:
        """Hold the inputs of a block; whether a restart there gives the dense loss."""
        if self._held.at != block and block not in self._refused:
            self._advance(block)
        return block not in self._refused

    def _advance(self, block: int) -> None:
        start = self._held.at if self._held.at is not None and self._held.at < block and self._held.at not in self._refused else None
        depends: tuple[int, ...] = ()
        others = []
        with observable(self._model):
            for number in range(len(self._batches)):
                leaves = self._entered(block, number, start)
                if number == 0:
                    depends = self._dependent(block, leaves)
                others.append([leaves[i] for i in depends])
            self._held.at, self._held.inputs, self._held.depends = block, others, depends
            with self._held.starting(block, 0, 1):
                again = self._scores(self._pass(self._batches[0].inputs), 0, 1)
        if not self._agree(again, self._dense[:1]):
            self._refused.add(block)
            self._held.at, self._held.inputs = None, []
            self._say(f"{self.blocks[block]}: a restart does not give the dense loss; full passes for its weights")

    def _entered(self, block: int, number: int, start: int | None) -> list[Tensor]:
        """All tensors that block is given, from a dense pass that ends there."""
        found: list[Tensor] = []

        def entering(_: Any, args: Any, kwargs: Any) -> None:
            found.extend(tensors_in((args, kwargs)))
            raise _Reached

        handle = self._model.get_submodule(self.blocks[block]).register_forward_pre_hook(entering, with_kwargs=True)
        with hooked([handle]), suppress(_Reached), self._held.starting(start, number, 1):
            self._pass(self._batches[number].inputs)
        return found

    def _dependent(self, block: int, dense: Sequence[Tensor]) -> tuple[int, ...]:
        """Step 3: places of the tensors that are others when earlier blocks give zeros."""
        import torch

        with self._held.skipping(block, 0, 1):
            now = self._entered(block, 0, None)
        if len(now) != len(dense):
            return ()
        same = [a.shape == b.shape and torch.equal(a, b) for a, b in zip(now, dense)]
        return tuple(i for i, is_same in enumerate(same) if not is_same)

    # -- passes -------------------------------------------------------------------------------------------------------

    def _pass(self, inputs: Any) -> Any:
        self.passes += 1
        return run(self._model, inputs)

    def _scores(self, output: Any, number: int, versions: int) -> list[Losses]:
        """Losses of each version."""
        batch, examples = self._batches[number], self._examples[number]
        if self._task.is_divergence:
            kept = self._references[number]
            batch = replace(batch, reference=self._pass(batch.inputs) if kept is None else kept)
        if versions == 1:
            return [self._task.score(output, batch)]
        answer = answer_of(output)
        if answer.shape[0] != versions * examples:
            raise CannotStack(f"the model gives {answer.shape[0]} rows for {versions * examples} examples")
        return [self._task.score(part, batch) for part in answer.split(examples)]

    def _say(self, words: str) -> None:
        if words not in self.facts["fallbacks"]:
            self.facts["fallbacks"].append(words)

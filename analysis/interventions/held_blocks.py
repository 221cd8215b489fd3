"""What is kept of the dense model, batch by batch, so that a pass can start at one of its blocks: steps 2 and 4 of `restarting`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from analysis.capture.operators import tensors_in
from analysis.capture.running import forward_replaced, hooked
from analysis.interventions.skipping import form_of, give, plain
from analysis.interventions.stacking import mapped, repeated

if TYPE_CHECKING:
    from torch import Tensor, nn


class HeldBlocks:
    """Forms of what every block gave, and the inputs of one block."""

    def __init__(self, model: nn.Module, examples: Sequence[int]) -> None:
        """``examples``: of each batch."""
        self._model, self._examples = model, examples
        self.blocks: tuple[str, ...] = ()
        """In the order they run; those that cannot be skipped are not among them."""
        self._forms: list[dict[int, Any]] = []
        self._ends: list[dict[int, Any]] = []
        self.at: int | None = None
        """The block whose inputs are held."""
        self.inputs: list[list[Tensor]] = []
        """By batch, those of its inputs that depend on earlier blocks."""
        self.depends: tuple[int, ...] = ()
        """Their places among all its inputs."""

    def keep_forms(self, outputs: Mapping[str, Any]) -> None:
        """Of one batch: shapes of what every block gave, and the outputs with which lists of blocks end."""
        lists = [path.rpartition(".")[0] for path in self.blocks]
        self._forms.append({i: mapped(plain(outputs[path]), form_of) for i, path in enumerate(self.blocks)})
        ends = [i for i, one in enumerate(lists) if one not in lists[i + 1 :] and i + 1 < len(lists)]
        self._ends.append({i: mapped(plain(outputs[self.blocks[i]]), lambda t: t.clone()) for i in ends})

    @contextmanager
    def starting(self, start: int | None, number: int, versions: int) -> Iterator[None]:
        """Inside, a pass on batch ``number`` starts at a block whose inputs are held; None: at the beginning."""
        if start is None:
            yield
            return
        stored = dict(zip(self.depends, self.inputs[number]))
        examples = self._examples[number]

        def entering(_: Any, args: Any, kwargs: Any) -> Any:
            place = iter(range(len(list(tensors_in((args, kwargs))))))

            def given(tensor: Tensor) -> Tensor:
                i = next(place)
                return tensor if i not in stored else repeated(stored[i], examples, versions) if versions > 1 else stored[i].clone()

            return mapped(args, given), mapped(kwargs, given)

        handle = self._model.get_submodule(self.blocks[start]).register_forward_pre_hook(entering, with_kwargs=True)
        with hooked([handle]), self.skipping(start, number, versions):
            yield

    @contextmanager
    def skipping(self, start: int, number: int, versions: int) -> Iterator[None]:
        """Step 2: blocks before ``start`` give zeros, or what they gave where a list of blocks ends with them."""
        examples = self._examples[number]
        with ExitStack() as undo:
            for i in range(start):
                kept = self._ends[number].get(i)
                stand_in = partial(give, self._forms[number][i], kept, examples, versions)
                undo.enter_context(forward_replaced(self._model.get_submodule(self.blocks[i]), stand_in))
            yield

"""What the process of a job does once it is its turn. The only module here that loads torch, inside `carry_out`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from analysis.executors.choice import AUTO, LOCAL, carried, executor_of
from analysis.given_run import RUN, given_run
from analysis.given_sae import SAE, given_sae
from analysis.jobs import memory
from analysis.jobs.knowledge import inspect, remember
from analysis.jobs.request import JobSpec
from analysis.runner import Progress, ProgressCallback, run, run_key
from analysis.second_data import SECOND, second_of
from analysis.spec import IncompatibleSubject

if TYPE_CHECKING:
    from store import RunInfo, Store


def carry_out(store: Store, spec: JobSpec, show: ProgressCallback, note_key: Callable[[str], None]) -> RunInfo | None:
    """Run the analysis, or inspect the model (which seals nothing: None). ``note_key`` is told the run's key once it is known."""

    def step(what: str, done: float, total: float) -> None:
        show(Progress(what, done, total))

    memory.check_now(spec)
    step("loading model", 0, 0)
    if spec.slug is None:
        inspect(store, spec.model, spec.device, step)
        return None
    analysis, config = spec.analysis, spec.settings
    subjects = open_inputs(store, spec, step)
    for role, ref in spec.models.items():
        remember(store, ref, subjects[role])
    models = {role: subjects[role] for role in spec.models}
    each = memory.each(spec, models)
    spec = _carried(spec, each)
    memory.check_now(spec, models)
    note_key(run_key(analysis, config, subjects))
    alone = len(subjects) == 1
    try:
        info = run(
            analysis, subjects, config, store, force=spec.force, resume=spec.resume, progress=show,
            executor=executor_of(spec.choice, spec.device, each), opening=partial(open_models, spec),
        )  # fmt: skip
    except IncompatibleSubject as error:
        if alone:
            store.known.add_need(spec.model, analysis.slug, analysis.version, str(error))
        raise
    if alone:
        store.known.add_need(spec.model, analysis.slug, analysis.version, None)
    return info


def _carried(spec: JobSpec, each: int) -> JobSpec:
    """The request with as many workers as this machine carries, where it leaves that open. each: bytes of a worker."""
    if spec.executor != LOCAL or spec.workers != AUTO:
        return spec
    return replace(spec, workers=carried(each, memory.free()))


def open_models(spec: JobSpec) -> Mapping[str, Any]:
    """What a worker opens: the models of a request, without the store."""
    return _opened(spec, lambda what, done, total: None)


def open_inputs(store: Store, spec: JobSpec, step: Callable[[str, float, float], None]) -> Mapping[str, Any]:
    """The declared inputs, opened, with windows of the data where the analysis reads any."""
    found: dict[str, Any] = {RUN: given_run(store, spec.inputs[RUN])} if RUN in spec.inputs else {}
    found |= {SAE: given_sae(store, spec.inputs[SAE], spec.device)} if SAE in spec.inputs else {}
    return found | _opened(spec, step)


def _opened(spec: JobSpec, step: Callable[[str, float, float], None]) -> dict[str, Any]:
    from analysis.models import open_subject

    config = spec.settings
    wanted = {name: getattr(config, name) for name in ("n_tokens", "window", "seed") if hasattr(config, name)}
    data = {"data": spec.data, **wanted} if spec.analysis.reads_data else {}
    found = {role: open_subject(ref, device=spec.device, dtype=spec.dtype, progress=step, **data) for role, ref in spec.models.items()}
    if second := getattr(config, SECOND, ""):
        found[SECOND] = second_of(found["model"], second, progress=step, **wanted)
    return found

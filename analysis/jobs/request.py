"""What a job is asked to do, checked before anything is started. Reads files' names and headers, never weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from analysis.executors.choice import LOCAL, RAY, Choice, choose
from analysis.given_sae import NOT_MODELS, SAE, check_sae
from analysis.models import BUNDLED, places
from analysis.models.documents import PYTHON_DOCS
from analysis.models.inputs import check_data, filed
from analysis.models.placement import check_dtype
from analysis.second_data import filed_settings
from analysis.spec import Analysis, BadConfig, IncompatibleSubject, UserError, make_config


@dataclass(frozen=True)
class JobSpec:
    """One request, as JSON in the catalogue. Paths are absolute, settings complete: it means the same everywhere, later too."""

    slug: str | None
    """The analysis; None to open the model and note its facts."""
    model: str
    data: str | None = None
    inputs: Mapping[str, str] = field(default_factory=dict)
    """Further declared inputs, by role."""
    config: Mapping[str, Any] = field(default_factory=dict)
    device: str = "cpu"
    dtype: str = ""
    """Number format of the weights; empty for that of the files."""
    force: bool = False
    """Answer anew although a sealed run exists."""
    resume: bool = False
    """With ``force``: go on with an unfinished answer."""
    now: bool = False
    """Do not wait in the queue."""
    executor: str = Choice.executor
    workers: int = Choice.workers
    address: str = Choice.address

    @property
    def choice(self) -> Choice:
        """Who computes."""
        return Choice(self.executor, self.workers, self.address)

    @property
    def analysis(self) -> Analysis:
        """The analysis asked for."""
        if self.slug is None:
            raise TypeError("an inspection asks for no analysis")
        from analysis import find_analysis  # the registry is not there yet while an analysis that uses jobs or live models is being read

        return find_analysis(self.slug)

    @property
    def settings(self) -> Any:
        """The config, checked again: the program may have changed since."""
        return make_config(self.analysis.config, self.config)

    @property
    def models(self) -> dict[str, str]:
        """Every input that is a model, by role; a sealed run is none, nor is an SAE."""
        return {"model": self.model, **{role: ref for role, ref in self.inputs.items() if role not in NOT_MODELS}}

    @property
    def words(self) -> str:
        """What is done to what, for lists and messages."""
        return f"{self.slug or 'inspection'} of {self.model}"

    def as_json(self) -> dict[str, Any]:
        """As the catalogue keeps it."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> JobSpec:
        """The request that `as_json` wrote; what a newer program may have added is left out."""
        return cls(**{f.name: values[f.name] for f in dataclasses.fields(cls) if f.name in values})


def reference(text: str) -> str:
    """A model or data as filed: bundled names and hub ids as they are, everything that is on this machine as an absolute path."""
    if text in BUNDLED or text == PYTHON_DOCS:
        return text
    path = Path(text).expanduser()
    return str(path.resolve()) if path.exists() else text


def checked(
    slug: str,
    model: str,
    data: str | None = None,
    config: Mapping[str, Any] | None = None,
    *,
    inputs: Mapping[str, str] | None = None,
    device: str = "cpu",
    dtype: str = "",
    force: bool = False,
    now: bool = False,
    executor: str = Choice.executor,
    workers: Any = None,
    address: str = Choice.address,
) -> JobSpec:
    """The request, or the sentence why it cannot be carried out; for a model on a hub, only its form is looked at."""
    from analysis import find_analysis

    analysis = find_analysis(slug)
    choice = choose(analysis, executor, workers, address)
    check_workers(choice, model, device)
    settings = filed_settings(dataclasses.asdict(make_config(analysis.config, config or {})))
    further = {role: reference(text) for role, text in (inputs or {}).items()}
    unknown = sorted(set(further) - set(analysis.inputs))
    if unknown:
        raise BadConfig(f"{slug} has no input {unknown[0]!r}; its inputs are {', '.join(analysis.inputs)}.")
    missing = [role for role in analysis.inputs if role != "model" and role not in further]
    if missing:
        raise UserError(f"{slug} needs the input {missing[0]!r}; give it with --with {missing[0]}=REF.")
    for one in (model, *(text for role, text in further.items() if role not in NOT_MODELS)):
        _check_shape(analysis, one)
    if SAE in further:
        check_sae(further[SAE])
    text = None
    if analysis.reads_data:
        text = filed(data or PYTHON_DOCS)
        check_data(text)
    if check_dtype(dtype) and analysis.kind == "static":
        raise UserError(f"{slug} reads the files as they are, got --dtype {dtype}; leave it out.")
    spec = JobSpec(slug, reference(model), text, further, settings, device, dtype, force, now=now)
    return dataclasses.replace(spec, **dataclasses.asdict(choice))


def check_workers(choice: Choice, model: str, device: str) -> None:
    """Raise the sentence where workers could not open the model, or would share a GPU that only one process can fill."""
    if choice.is_alone:
        return
    place = check_model(model)
    if place is not None and place.form in ("exported", "factory"):
        raise UserError(f"workers must be given a model that is data, got {model}, which is code and trusted once; leave --workers out.")
    if choice.executor == RAY and device not in ("cpu", "cuda"):
        raise UserError(f"workers of a cluster must compute on cpu or cuda, got {device}; with --device cuda each has a GPU of its own.")
    if device != "cpu" and choice.executor == LOCAL:
        raise UserError(f"workers of one machine must compute on its cpu, got {device}; --executor ray gives each a GPU of its own.")


def check_model(model: str) -> places.Place | None:
    """Where the model is; None for a hub id. Raises the sentence for one that is not there or is incomplete."""
    return None if places.is_hub_id(model) else places.find(model)


def _check_shape(analysis: Analysis, model: str) -> None:
    """Raise the sentence for a series where a checkpoint is asked for, and the other way round."""
    place = check_model(model)
    wrong = analysis.wrong_shape(model, [step.place.name for step in place.steps] if place else [])
    if wrong:
        raise IncompatibleSubject(wrong)

"""The form of an analysis, derived from its declaration: its settings with help, unit and bounds, its data and further inputs.

Settings are typed as text, so that a value outside its bounds is answered in the analysis' own sentence and stays where it
was typed, and so that 1e-4 can be typed at all. The address may fill the form: `?n_tokens=2048`.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from analysis import ANALYSES
from analysis.executors.choice import CLUSTER, EXECUTORS, LOCAL, RAY
from analysis.executors.threads import cores
from analysis.given_run import RUN
from analysis.given_sae import NOT_MODELS, SAE, SAE_WORDS, is_path
from analysis.jobs import Job, JobSpec, memory, reference, request, why_not
from analysis.models.documents import PYTHON_DOCS
from analysis.second_data import SECOND
from analysis.spec import Analysis, Setting, UserError, settings_of
from figures.words import number, visible
from store import StoreError
from store.errors import size_words
from ui import data
from ui.folders import check, check_data, check_reference
from ui.jobs import changed
from ui.links import JOB_PAGE
from ui.uploads.kept import shown
from ui.words import plain

DEVICES = ("cpu", "cuda")
_INPUT_WORDS = {RUN: "Id of a run.", SAE: SAE_WORDS}


@dataclass
class Filled:
    """What stands in the form."""

    data: str | None = None
    device: str = "cpu"
    force: bool = False
    now: bool = False
    executor: str = LOCAL
    workers: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    inputs: dict[str, str] = field(default_factory=dict)


def choose(models: Sequence[str]) -> tuple[Analysis, str | None]:
    """Which analysis, of which model: both in the address; the model may be typed."""
    slugs = {analysis.slug: analysis for analysis in ANALYSES}
    asked = st.query_params.to_dict()
    options = list(dict.fromkeys([*models, *filter(None, [asked.get("model")])]))
    with st.container(horizontal=True, vertical_alignment="top"):
        # Not bound to the address by Streamlit, which would write the title there, not the slug.
        place = list(slugs).index(asked["analysis"]) if asked.get("analysis") in slugs else 0
        slug = st.selectbox("Question", list(slugs), place, format_func=lambda one: slugs[one].title, key="question")
        model = st.selectbox(
            "Model",
            options,
            options.index(asked["model"]) if asked.get("model") else 0,
            format_func=lambda one: visible(shown(one)),
            key="model-of-question",
            accept_new_options=True,
            help="A model of the library, or the path of a Hugging Face folder, a .gguf or .safetensors file, or a hub id: type it.",
        )
    model = str(model).strip() if model else ""
    if (slug, model) != (asked.get("analysis"), asked.get("model")):
        given = {"analysis": slug} | ({"model": model} if model else {})
        st.query_params.from_dict(asked | given if asked.get("analysis") in (None, slug) else given)
    return slugs[slug], model or None


def obstacle(analysis: Analysis, model: str) -> bool:
    """Say why this analysis cannot run on the model, or offer to look where nobody has; whether it cannot."""
    try:
        words = why_not(data.store(), analysis, check_reference(data.store(), model))
    except UserError as error:
        st.error(plain(error), icon=":material/block:")
        return True
    if words:
        st.warning(f"{plain(analysis.title)} cannot be run on this model: {plain(words)}", icon=":material/block:")
        return True
    if data.store().known.get(reference(model)) is None:
        with st.container(horizontal=True, vertical_alignment="center"):
            st.caption("This model has not been opened here yet; starting opens it. Or find out first what can be asked of it:")
            if st.button("Look at this model first", icon=":material/search:", type="tertiary"):
                ask(lambda: data.desk().inspect(model))
    return False


def fields(analysis: Analysis) -> Filled:
    """The fields of the form, inside of `st.form`; two in a row where there is room."""
    filled = Filled()
    given = st.query_params
    places = _places()
    if analysis.reads_data:
        words = f"{PYTHON_DOCS}, the path of a text file, or of a folder of text files."
        filled.data = next(places).text_input("Data", given.get("data", PYTHON_DOCS), key="data", help=words)
    for role in analysis.inputs:
        if role != "model":
            filled.inputs[role] = next(places).text_input(
                f"Input: {role}", given.get(role, ""), key=f"input-{role}", help=_INPUT_WORDS.get(role, "As for the model.")
            )
    device = given.get("device", DEVICES[0])
    devices = list(dict.fromkeys([*DEVICES, device]))
    filled.device = next(places).selectbox("Device", devices, devices.index(device), key="device")
    if analysis.cells is not None:
        _workers(filled, places)
    places = _places()
    for one in settings_of(analysis.config):
        with next(places):
            filled.settings[one.name] = setting_field(analysis, one, given.get(one.name))
    with st.container(horizontal=True):
        filled.force = st.checkbox("Run again even if this has been answered", key="force")
        filled.now = st.checkbox("Do not wait for running jobs", key="now")
    return filled


def _workers(filled: Filled, places: Iterator[DeltaGenerator]) -> None:
    """Who computes; a cluster only where whoever serves has named one."""
    given = st.query_params
    if os.environ.get(CLUSTER):
        start = EXECUTORS.index(given["executor"]) if given.get("executor") in EXECUTORS else 0
        names = {LOCAL: "This machine", RAY: "The Ray cluster"}
        filled.executor = next(places).selectbox("Computed on", EXECUTORS, start, format_func=names.__getitem__, key="executor")
    words = f"Processes side by side: 1 to {cores()} on this machine, or auto: as many as its memory carries. The answer is the same."
    filled.workers = next(places).text_input("Workers", given.get("workers", "1"), key="workers", help=words)


def _places() -> Iterator[DeltaGenerator]:
    """Places for fields, row by row, so that they stay in order where the columns are stacked."""
    while True:
        yield from st.columns(2, gap="medium")


def setting_field(analysis: Analysis, one: Setting, given: str | None) -> Any:
    """The widget for one setting, with what it means, its bounds and its default."""
    label = f"{one.name} ({one.unit})" if one.unit else one.name  # ours, so not escaped: who cannot see hears a label as it is written
    key = f"{analysis.slug}-{one.name}"
    default = number(one.default) if one.type in (int, bool) else one.default
    bounds = f"{one.range_words}, " if one.choices or one.type is not str else ""
    words = f"{one.help}; {bounds}default {'empty' if default == '' else default}" + ("" if one.result else "; changes no number")
    if one.type is bool:
        chosen = st.checkbox(label, value=(given or str(one.default)).lower() in ("true", "yes", "1"), key=key)
    elif one.choices:
        options = [str(choice) for choice in one.choices]
        start = given if given in options else str(one.default)
        chosen = st.selectbox(label, options, options.index(start), key=key)
    elif one.lines:
        chosen = st.text_area(label, given if given is not None else str(one.default), key=key, height=90)
    else:
        chosen = st.text_input(label, given if given is not None else str(one.default), key=key)
    st.caption(plain(words))
    return chosen.replace(",", "") if isinstance(chosen, str) and one.type is not str else chosen


def checked(analysis: Analysis, model: str, filled: Filled) -> JobSpec:
    """The request in the form, or the sentence why it cannot be carried out. Starts nothing."""
    for one in (model, *(text for role, text in filled.inputs.items() if role not in NOT_MODELS)):
        check_reference(data.store(), one)
    if is_path(filled.inputs.get(SAE, "")):
        check(Path(filled.inputs[SAE]))
    if filled.settings.get(SECOND):
        check_data(filled.settings[SECOND])
    return request.checked(
        analysis.slug,
        model,
        check_data(filled.data) if filled.data else None,
        filled.settings,
        inputs=filled.inputs,
        device=filled.device,
        force=filled.force,
        now=filled.now,
        executor=filled.executor,
        workers=filled.workers,
    )


def told(spec: JobSpec) -> None:
    """What the request comes to: the memory it will need, and the command that asks for the same."""
    need = memory.estimate(spec)
    st.caption(f"Needs about {size_words(need)} of memory." if need else "The memory it needs shows when the model has been fetched.")
    more: dict[str, Any] = {"data": spec.data} if spec.data else {}
    more |= {"device": spec.device} if spec.device != "cpu" else {}
    command = data.command(spec.slug or "", spec.model, **more, **changed(spec.slug, spec.config))
    command += "".join(f" --with {shlex.quote(f'{role}={ref}')}" for role, ref in spec.inputs.items())
    command += "".join(f" --{flag}" for flag in ("force", "now") if getattr(spec, flag)) + spec.choice.flags
    st.code(command, language="bash", wrap_lines=True)


def ask(start: Callable[[], Job]) -> None:
    """Start a job and go to its page; or say in one sentence, here, why it cannot be started."""
    try:
        job = start()
    except (UserError, StoreError) as error:
        st.error(plain(error), icon=":material/error:")
        return
    st.switch_page(JOB_PAGE, query_params={"job": job.id})

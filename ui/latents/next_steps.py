"""What can be asked of an SAE next: one button per analysis that has not answered for it, and the same as a command."""

from __future__ import annotations

from typing import Any

import streamlit as st

from analysis import ANALYSES
from analysis.given_sae import SAE
from analysis.models.documents import PYTHON_DOCS
from analysis.spec import Analysis, settings_of
from store import Job, RunInfo
from store.jobs import LIVE
from ui import data
from ui.forms import ask
from ui.jobs import job_link
from ui.latents.saes import ATTRIBUTION, EXAMPLES, QUALITY, TRAIN, Sae
from ui.links import START_PAGE
from ui.runs import reference_of
from ui.words import code, plain

IN_MEMORY = "a module in memory"
"""What `analysis.models.subject_from` calls the source of such a model."""
STEPS = (
    (QUALITY, "Judge it", "What the model loses with it in place, which of its latents are dead or doubled, and what rivals do."),
    (EXAMPLES, "Collect examples", "What each latent stands for: where it peaks, what it promotes, what does the same."),
    (ATTRIBUTION, "Attribute to heads", "Which heads and which earlier tokens feed each latent."),
)


def show_next(sae: Sae) -> None:
    """Every analysis that has not answered for this SAE, and that could."""
    there = {run.slug for run in sae.runs}
    known = {analysis.slug: analysis for analysis in ANALYSES}
    waiting = [step for step in STEPS if step[0] not in there and step[0] in known and (step[0] != ATTRIBUTION or _reads_heads(sae))]
    if not waiting:
        return
    with st.container(border=True):
        st.markdown("**Next for this SAE**")
        if sae.facts.get("reads_text") is False:
            titles = ", ".join(plain(known[slug].title) for slug, _, _ in waiting)
            st.markdown(f"{titles}: they ask what a text loses and where in it latents peak, and the model of this SAE reads none.")
            return
        if only_in_memory(sae.run):
            titles = ", ".join(plain(known[slug].title) for slug, _, _ in waiting)
            st.markdown(f"{titles}: its model was only in memory, so ask them where it is, with {code('analysis.runner.run')} in Python.")
            return
        for slug, label, words in waiting:
            _step(sae, known[slug], label, words)


def only_in_memory(run: RunInfo) -> bool:
    """Whether nothing but the program that made the run can open its model again."""
    return run.provenance.get("model_source") == IN_MEMORY


def _reads_heads(sae: Sae) -> bool:
    return sae.hook_name.endswith("hook_z") or sae.facts.get("kind") == "attention_z"


def _step(sae: Sae, analysis: Analysis, label: str, words: str) -> None:
    run = sae.run
    live = next((job for job in data.desk().list() if job.slug == analysis.slug and job.status in LIVE and _is_of(job, sae)), None)
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        if live is not None:
            job_link(live)
        elif sae.reference and run.data == PYTHON_DOCS:
            if st.button(label, icon=":material/play_arrow:", key=f"next-{analysis.slug}", type="primary"):
                settings = fitting(sae, analysis)
                ask(lambda: data.desk().submit(analysis.slug, reference_of(run), PYTHON_DOCS, settings, inputs={SAE: sae.reference}))
        else:
            query = {"analysis": analysis.slug, "model": reference_of(run), SAE: sae.reference} | _texts(fitting(sae, analysis))
            st.page_link(START_PAGE, label=label, icon=":material/play_arrow:", query_params=query, width="content")
        st.caption(plain(words))
    st.code(command(sae, analysis.slug, fitting(sae, analysis)), language="bash", wrap_lines=True)


def _is_of(job: Job, sae: Sae) -> bool:
    return bool(sae.reference) and (job.spec.get("inputs") or {}).get(SAE) == sae.reference


def _texts(settings: dict[str, Any]) -> dict[str, str]:
    return {name: str(value) for name, value in settings.items()}


def fitting(sae: Sae, analysis: Analysis) -> dict[str, int]:
    """The settings that must not be at their default: the window, where the SAE was trained on shorter ones."""
    trained = sae.train.config.get("window") if sae.train else None
    window = next((one for one in settings_of(analysis.config) if one.name == "window"), None)
    return {"window": trained} if window is not None and isinstance(trained, int) and trained < window.default else {}


def command(sae: Sae, slug: str, settings: dict[str, Any]) -> str:
    """The command that runs an analysis with this SAE."""
    given = data.command(slug, reference_of(sae.run), **settings)
    return f"{given} --with sae={sae.reference or 'FOLDER'}"


def how_to_train(run: RunInfo | None = None) -> None:
    """Where there is no SAE yet: the way to train one, and the same as a command."""
    model = reference_of(run) if run is not None else "smollm2"
    st.code(data.command(TRAIN, model), language="bash", wrap_lines=True)
    st.page_link(START_PAGE, label="Train an SAE here", icon=":material/play_arrow:", query_params={"analysis": TRAIN, "model": model})

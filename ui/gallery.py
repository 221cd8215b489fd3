"""What the gallery shows: pictures of all figures and the tables of a run to tick, how they are wanted, and the zip of them.

The pictures are drawn for the place chosen, so what is seen is what is taken. A zip is made when it is asked for, and kept for the
session until another one is.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import streamlit as st

from analysis.gallery import Item, Wish, items, run_zip
from analysis.spec import UserError
from figures.bundle import DEFAULT_FORMATS
from figures.pgf import why_not
from figures.presets import PRESETS, TYPEFACES, find_preset
from figures.spec import SUFFIXES, FigureError
from store import RunInfo, StoreError
from store.errors import size_words
from ui import data
from ui.words import count, plain

ITEMS = "items"
"""In the address: the ids of what is ticked, with commas, where that is not all figures and no table."""
PRESET = "preset"
"""In the address: for which place."""
_MADE = "gallery-made"
_SLOW_S = 2.0
"""Seconds of making after which progress is shown."""
_PICTURE_DPI = 110
_DOTS = (150, 300, 600)
_NEVER_TICKED = "none"


@dataclass(frozen=True)
class Zip:
    """A zip that was made, and what was asked for."""

    asked: object
    content: bytes


def known(run: RunInfo) -> tuple[Item, ...]:
    """Everything of the run that can be taken along."""
    return items(data.store(), run)


def wish() -> Wish:
    """The controls: for which place, in which formats, with or without a title; all in the address."""
    without_tex = why_not()
    offered = [one for one in SUFFIXES if one != "pgf" or without_tex is None]
    with st.container(horizontal=True, vertical_alignment="bottom"):
        preset = _preset()
        usual = f"{PRESETS[preset].typeface}, as usual there"
        typeface = st.selectbox("Letters", TYPEFACES, None, placeholder=usual, key="typeface", bind="query-params", width=190)
        title = st.toggle("Title above", key="title", bind="query-params", help="Papers have it in the caption, slides often above.")
    formats = st.pills(
        "Formats", offered, selection_mode="multi", default=list(DEFAULT_FORMATS), key="formats", bind="query-params",
        help="tex is a LaTeX table, of at most 100 rows. A figure's data as CSV, its caption, references and script always come along.",
    )  # fmt: skip
    dpi = 300
    if "png" in formats:
        dpi = st.segmented_control("Dots per inch of PNG", _DOTS, default=300, required=True, key="dpi", bind="query-params")
    if without_tex is not None:
        st.caption(plain(without_tex))
    return Wish(find_preset(preset, typeface), tuple(one for one in SUFFIXES if one in formats), title, dpi)


def _preset() -> str:
    """For which place. In the address by its short name, which is what the command line takes; a bound widget would write its words."""
    slugs = list(PRESETS)
    asked = st.query_params.get(PRESET)
    return st.selectbox(
        "For", slugs, slugs.index(asked) if asked in slugs else 0, format_func=lambda one: PRESETS[one].words, key="place", width=240,
        on_change=_remember_preset, help="Sets the width, to a tenth of a millimetre, and the letters: include it without a width.",
    )  # fmt: skip


def _remember_preset() -> None:
    st.query_params[PRESET] = st.session_state["place"]


# ---------------------------------------------------------------------------------------------------------------------
# Ticks


def ticked(run: RunInfo, all_items: Sequence[Item]) -> tuple[Item, ...]:
    """What is ticked: from the ticks once they exist, before that from the address."""
    asked = st.query_params.get(ITEMS)
    wanted = _usual(all_items) if asked is None else set(asked.split(","))
    return tuple(one for one in all_items if st.session_state.get(_key(run, one), one.id in wanted))


def tick_buttons(run: RunInfo, all_items: Sequence[Item]) -> None:
    """All, figures, none."""
    figures = [one for one in all_items if one.kind == "figure"]
    with st.container(horizontal=True):
        for label, these in (("Tick everything", all_items), ("Figures only", figures), ("Nothing", ())):
            st.button(label, on_click=_tick, args=(run, all_items, these), type="tertiary", key=f"tick-{label}")


def show_figures(run: RunInfo, all_items: Sequence[Item], chosen: Sequence[Item], wanted: Wish) -> None:
    """A picture of each figure as it will be, with its tick."""
    columns = st.columns(3)
    for i, item in enumerate(one for one in all_items if one.kind == "figure"):
        with columns[i % 3].container(border=True):
            _tick_box(run, all_items, item, spoken(item.title), item in chosen)
            look = (wanted.preset.slug, wanted.preset.typeface, wanted.title)
            picture, words = _picture(data.store_folder(), run.id, item.slug, *look)
            if picture is None:
                st.caption(f"Cannot be drawn: {plain(words)}")
            else:
                st.image(picture, alt=words)


def show_tables(run: RunInfo, all_items: Sequence[Item], chosen: Sequence[Item]) -> None:
    """The stored tables, each with what it holds and its tick."""
    for item in (one for one in all_items if one.kind == "table"):
        with st.container(gap="xxsmall"):
            _tick_box(run, all_items, item, f"{spoken(item.slug)} · {count(item.rows, 'row')}", item in chosen)
            st.caption(plain(item.title))


def spoken(text: str) -> str:
    """Foreign text as a label. Screen readers are given the Markdown itself, so that words which need no escapes get none."""
    harmless = re.fullmatch(r"\w[\w ,;()%·-]*", text) is not None and "__" not in text and not text.startswith("_")
    return text if harmless else plain(text)


def forget_ticks() -> None:
    """Another run has other figures."""
    st.query_params.pop(ITEMS, None)


def _tick_box(run: RunInfo, all_items: Sequence[Item], item: Item, label: str, is_ticked: bool) -> None:
    key = _key(run, item)
    st.session_state.setdefault(key, is_ticked)
    st.checkbox(label, key=key, on_change=_remember, args=(run, all_items))


def _key(run: RunInfo, item: Item) -> str:
    return f"take-{run.id}-{item.id}"


def _usual(all_items: Iterable[Item]) -> set[str]:
    return {one.id for one in all_items if one.kind == "figure"}


def _tick(run: RunInfo, all_items: Sequence[Item], these: Sequence[Item]) -> None:
    for one in all_items:
        st.session_state[_key(run, one)] = one in these
    _remember(run, all_items)


def _remember(run: RunInfo, all_items: Sequence[Item]) -> None:
    """Write what is ticked into the address."""
    ids = [one.id for one in all_items if st.session_state.get(_key(run, one))]
    if set(ids) == _usual(all_items):
        st.query_params.pop(ITEMS, None)
    else:
        st.query_params[ITEMS] = ",".join(ids) or _NEVER_TICKED


# ---------------------------------------------------------------------------------------------------------------------
# Pictures and the zip


@st.cache_data(max_entries=256, show_spinner="Drawing from the stored rows …")
def _picture(folder: str, run_id: str, slug: str, preset: str, typeface: str, title: bool) -> tuple[bytes | None, str]:
    """The figure as a small PNG and its sentence; or None and why it cannot be drawn."""
    from analysis.drawing import draw
    from figures.export import render

    opened = data.open_store(folder)
    try:
        spec, _ = draw(opened, opened.find(run_id), slug)
        return render(spec, "png", {}, preset=find_preset(preset, typeface), title=title, dpi=_PICTURE_DPI), spec.sentence
    except (FigureError, UserError, StoreError) as error:
        return None, str(error)


def take(run: RunInfo, chosen: Sequence[Item], wanted: Wish) -> None:
    """The button that makes the zip, its progress, and the button that downloads it."""
    asked = (run.id, tuple(one.id for one in chosen), wanted)
    if st.button(
        f"Make a zip of {count(len(chosen), 'item')}", type="primary", icon=":material/folder_zip:", key="make",
        disabled=not chosen or not wanted.formats,
    ):  # fmt: skip
        st.session_state.pop(_MADE, None)
        try:
            st.session_state[_MADE] = Zip(asked, _made(run, chosen, wanted))
        except (FigureError, StoreError) as error:
            st.warning(plain(error), icon=":material/warning:")
    made = st.session_state.get(_MADE)
    if isinstance(made, Zip) and made.asked == asked:
        st.download_button(
            f"Download the zip, {size_words(len(made.content))}", made.content, f"{run.slug}-{run.id}.zip", "application/zip",
            key="download", icon=":material/download:", on_click="ignore",
        )  # fmt: skip
        st.caption("README.txt in it says what each file is, and what was left out and why. The same choice gives the same bytes.")
    elif not chosen or not wanted.formats:
        st.caption("Tick at least one figure or table, and choose at least one format.")


def _made(run: RunInfo, chosen: Sequence[Item], wanted: Wish) -> bytes:
    began, place = time.monotonic(), st.empty()

    def tell(item: Item, i: int) -> None:
        if time.monotonic() - began > _SLOW_S:
            place.progress(i / len(chosen), text=f"{i + 1} of {len(chosen)}: {plain(item.id)}")

    content = run_zip(data.store(), run, chosen, wanted, tell)
    place.empty()
    return content


def as_command(run: RunInfo, wanted: Wish) -> str:
    """The command that writes everything of the run into a folder, as it is wanted here."""
    flags: dict[str, object] = {"to": f"{run.slug}-{run.id}", "preset": wanted.preset.slug, "formats": ",".join(wanted.formats)}
    if wanted.preset.typeface != PRESETS[wanted.preset.slug].typeface:
        flags["typeface"] = wanted.preset.typeface
    if wanted.dpi != 300:
        flags["dpi"] = wanted.dpi
    return data.command_line("export", "--all", run.id, *(["--title"] if wanted.title else []), **flags)

"""A prompt through a model, as it is and with something taken away: every choice, the prompt too, is in the address."""

import streamlit as st

from ui.links import copy_link
from ui.playground.asking import answered
from ui.playground.choices import sides
from ui.playground.coloured import show_coloured
from ui.playground.job import job_links
from ui.playground.layers import show_layers
from ui.playground.lens import show_lens
from ui.playground.next_tokens import chosen_tokens, show_next, show_texts
from ui.playground.recorded import in_python, provenance_of
from ui.playground.states import about, change, difference, states_of

with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
    st.title("Playground", anchor=False)
    copy_link()

asked = sides()
if not asked:
    st.caption("Run reads the prompt with the model, in a process of its own that leaves by itself.")
    st.stop()
job_links(asked)
found = answered(asked)
if found is None:
    st.stop()

for side, played in zip(asked, found, strict=True):
    st.markdown(about(side, played, named=len(asked) > 1))
    if words := change(played):
        st.markdown(words)
states = states_of(asked, found)
if words := (difference(states) if len(asked) > 1 else None):
    st.markdown(words)

provenance = provenance_of(asked)
show_coloured(asked, states)
at = chosen_tokens(states)
show_next(states, at)
show_texts(states, [side.play.text for side in asked] * (len(states) // len(asked)))
show_layers(states, asked[0].play, provenance)
show_lens(states, at, provenance)
in_python(asked)

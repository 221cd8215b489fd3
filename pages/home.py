"""What has been analysed: a card per model with its headline numbers and its runs; for a newcomer, one clear first action."""

import streamlit as st

from analysis import ANALYSES
from ui import data
from ui.cards import model_card, models
from ui.words import count, plain

runs = data.runs()

st.title("Which parts of this model matter?", anchor=False)
if not runs:
    st.markdown(
        "Sparsescope measures which weights, neurons and attention heads of a language model carry its result, and which are"
        " idle. **Nothing has been measured yet.** Start with the small model that is bundled; it takes about a minute:"
    )
    st.code(data.command("neuron_activity", "smollm2"), language="bash", wrap_lines=True)
    st.markdown("Run this in a terminal, in the folder of Sparsescope. When it has finished, its result is here.")
    st.button("Look again", type="primary", icon=":material/refresh:")
else:
    cards = models(runs)
    st.markdown(f"{count(len(runs), 'run')} of {count(len(cards), 'model')}, in {plain(data.store_folder())}.")
    for name, of_model in cards.items():
        model_card(name, of_model)

st.header("What you can ask", anchor=False)
for analysis in ANALYSES:
    with st.expander(f"**{plain(analysis.title)}** — {plain(analysis.question)}"):
        st.markdown("\n".join(f"- {plain(table.name)}: {plain(table.meaning)}" for table in analysis.tables))
        st.code(data.command(analysis.slug, "smollm2"), language="bash", wrap_lines=True)

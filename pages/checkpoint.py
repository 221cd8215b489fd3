"""One model: `?model=<path, name or hub id>` or `?upload=<id>`. What its files hold, at once; what can be asked of it, and the answers."""

from functools import partial

import streamlit as st

from analysis.spec import UserError
from store import StoreError
from ui.checkpoint import contents, questions
from ui.checkpoint.place import find, header_of, tree_of
from ui.checkpoint.ways_in import another_control, delete_control, here, opened, ways_in
from ui.links import copy_link
from ui.weights.summary import weights_say
from ui.words import code, plain

asked, header, trouble = None, None, ""
try:
    asked = find(st.query_params.to_dict())
    header = header_of(asked) if asked else None
except (UserError, StoreError) as error:
    trouble = str(error)

if asked is None or trouble:
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        st.title("Look into a model", anchor=False)
        copy_link()
    st.markdown("Bring a file, or name one: what it holds shows at once from its headers, before anything is loaded.")
    if trouble:
        st.error(plain(trouble), icon=":material/block:")
    ways_in()
    here()
    st.stop()

st.set_page_config(page_title=f"{asked.shown} · model")
with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
    st.title(plain(asked.shown), anchor=False)
    with st.container(horizontal=True, vertical_alignment="center", width="content"):
        another_control()
        delete_control(asked)
        copy_link()

if header is None:
    st.markdown(f"The hub id {code(asked.ref)} has not been fetched to this machine; its headers show once it has been.")
elif header.refusal is not None:
    st.error(f"This cannot be opened: {plain(header.refusal)}", icon=":material/block:")
    st.stop()
else:
    st.markdown(f"**{plain(header.seems[:1].upper() + header.seems[1:])}** · {plain(header.kind_words)}")
    contents.summary(header)
questions.show(asked, header)
entry = questions.entry_of(asked)
if entry is not None:
    weights_say(entry.newest)
opened(asked)
if header is not None:
    contents.details(header, partial(tree_of, asked))

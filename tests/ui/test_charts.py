"""A chart that cannot be drawn is a sentence on its page, and never the end of the page."""

from streamlit.testing.v1 import AppTest


def _page():
    import pandas as pd
    import streamlit as st

    from figures.spec import Axis, FigureSpec
    from ui.charts import show_spec

    rows = pd.DataFrame({"x": [float("inf"), 1.0], "y": [1.0, 2.0]})
    spec = FigureSpec("scatter", rows, Axis("x", "x"), Axis("y", "y"), title="Without an end", sentence="None.")
    show_spec(spec, {}, name="none", key="none")
    st.markdown("what comes after")


def test_a_figure_that_fails_while_it_is_drawn_leaves_the_rest_of_the_page():
    at = AppTest.from_function(_page).run()
    assert not at.exception
    assert "must be finite" in at.warning[0].value
    assert [one.value for one in at.markdown] == ["## Without an end", "what comes after"]

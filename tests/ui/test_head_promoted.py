"""Which tokens a head reads and writes, on its page."""

import re

from analysis.attention.head_weights import HEAD_WEIGHTS
from tests.attention_run import make_heads, make_weights
from ui.attention.heads import Head, places_of
from ui.attention.promoted import SIDES, columns_of

HEAD = "pages/head.py"


def words_of(at):
    kinds = (at.title, at.header, at.markdown, at.caption, at.code)
    return re.sub(r"[\\\u2060]", "", "\n".join(str(one.value) for kind in kinds for one in kind))


def test_without_its_weights_read_the_page_says_how(store, open_page):
    heads = make_heads(store)
    at = open_page(HEAD, run=heads.id, layer="0", head="1")
    assert "run head_weights --model" in words_of(at)
    assert "kept by no analysis" not in words_of(at)


def test_every_direction_of_a_head_is_shown_with_the_tokens_of_its_rows(store, open_page):
    heads, weights = make_heads(store), make_weights(store)
    head = Head(places_of(heads)[1], 2)
    at = open_page(HEAD, **head.query(heads))
    assert not at.exception and "run head_weights --model" not in words_of(at)
    tokens = store.read(weights, "head_tokens", where=head.where, order_by=["direction", "side", "rank"])
    shown = [one.value.to_dict("list") for one in at.dataframe]
    for direction in range(3):
        here = tokens[tokens["direction"] == direction]
        assert columns_of(here) in shown
        for side, words in SIDES.items():
            ids = here[here["side"] == side].sort_values("rank")["token_id"]
            assert columns_of(here)[words] == [f"token {number}" for number in ids]
    share = store.read(weights, "heads_ov", where=head.where, order_by=["direction"])["energy_share"][0]
    assert f"Direction 1: {100 * share:.0f}" in words_of(at)


def test_a_head_that_could_not_be_read_says_why(store, open_page):
    heads, weights = make_heads(store, "t5"), make_weights(store, "t5")
    place = next(p for p in places_of(heads) if p.hook_name.startswith("encoder"))
    assert HEAD_WEIGHTS.version == 1 and not len(store.read(weights, "heads_ov", where=place.where))
    assert "another stream of tokens" in words_of(open_page(HEAD, **Head(place, 0).query(heads)))


def test_a_token_that_looks_like_html_stays_text():
    import pandas as pd

    hostile = "<img src=x onerror=alert(1)>\n"
    row = {"side": "read", "rank": 0, "token": hostile, "token_id": 3}
    assert columns_of(pd.DataFrame([row])) == {"reads": [hostile.replace("\n", "↵")]}

"""Foreign text is shown as itself, numbers as people read them."""

import re
from datetime import UTC, datetime

import pytest

from ui.words import code, count, duration, moment, percent, plain, value

HOSTILE = [
    "<img src=x onerror=alert(1)>",
    "[click](https://evil.example)",
    "![x](https://evil.example/x.png)",
    "https://evil.example/path",
    "www.evil.example",
    "me@evil.example",
    ":smile:",
    ":red[alarm]",
    ":material/delete:",
    "$x^2$",
    "# title",
    "**bold** _under_ ~~gone~~",
    "`code`",
    "a | b",
    "- item",
    "1. item",
    "line\nbreak",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_every_punctuation_mark_of_foreign_text_is_escaped(text):
    shown = plain(text)
    assert not re.search(r"(?<!\\)[<>\[\]()!`*_~$#|:@.\-]", shown), shown
    assert "\n" not in shown


@pytest.mark.parametrize("text", ["https://evil.example", "www.evil.example", "me@evil.example", ":smile:", ":material/delete:"])
def test_no_address_or_short_code_survives_the_resolving_of_escapes(text):
    resolved = re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", plain(text))
    assert not re.search(r"https?://|www\.\w|@evil\.example|:\w+(/\w+)?:", resolved)
    assert resolved.replace("\u2060", "") == text


@pytest.mark.parametrize("text", ["a", "`", "``", "a`b", "`a`", "a``b`c"])
def test_a_code_span_cannot_be_left_from_within(text):
    shown = code(text)
    fence = re.match(r"`+", shown)[0]
    inner = shown[len(fence) : -len(fence)]
    assert shown.endswith(fence)
    assert fence not in re.findall("`+", inner)
    assert inner.strip() == text


def test_an_empty_name_is_still_a_code_span():
    assert code("") == "` `"


def test_a_tiny_share_never_reads_as_zero():
    assert percent(0.00001) == "0.001 %"
    assert percent(0.0) == "0.0 %"
    assert percent(0.1234) == "12.3 %"
    assert percent(0.00234) == "0.23 %"


def test_one_is_singular_and_thousands_are_grouped():
    assert (count(1, "token"), count(61440, "token"), count(0, "run")) == ("1 token", "61,440 tokens", "0 runs")
    assert count(2, "entry", "entries") == "2 entries"


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.42, "0.4 s"), (12, "12 s"), (59.7, "1 min"), (200, "3 min 20 s"), (7500, "2 h 5 min"), (7200, "2 h")]
)
def test_durations_have_at_most_two_units(seconds, words):
    assert duration(seconds) == words


def test_a_moment_names_its_zone():
    assert moment(datetime(2026, 11, 22, 12, 31, tzinfo=UTC)) == "22 Nov 2026, 12:31 UTC"
    assert moment(datetime(2026, 11, 22, 12, 31)).endswith("local time")


def test_what_is_missing_is_said_in_words():
    assert value(None) == "not recorded"
    assert value([]) == "none"
    assert value({"a": 1, "b": None}) == "a: 1; b: not recorded"
    assert value(True) == "yes"

"""Declarations refuse what they do not allow, in sentences."""

from dataclasses import dataclass

import pytest

from analysis.spec import BadConfig, BadRows, Column, Table, make_config, setting, settings_of


@dataclass(frozen=True, kw_only=True)
class Config:
    k: int = setting(3, help="how many", unit="neurons", ge=1, le=10)
    share: float = setting(0.5, help="a share", ge=0.0, le=1.0)
    mode: str = setting("a", help="which", choices=("a", "b"))
    flag: bool = setting(False, help="whether", result=False)


def test_texts_are_parsed_to_the_declared_types():
    assert make_config(Config, {"k": "7", "share": "1", "mode": "b", "flag": "yes"}) == Config(k=7, share=1.0, mode="b", flag=True)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"k": 0}, "k must be between 1 and 10, got 0"),
        ({"k": "many"}, "k must be between 1 and 10, got 'many'"),
        ({"k": True}, "k must be between 1 and 10, got True"),
        ({"k": 2.5}, "k must be between 1 and 10, got 2.5"),
        ({"share": -0.1}, "share must be between 0 and 1, got -0.1"),
        ({"share": "nan"}, "share must be between 0 and 1, got nan"),
        ({"mode": "c"}, "mode must be one of 'a', 'b', got 'c'"),
        ({"flag": "perhaps"}, "flag must be yes or no, got 'perhaps'"),
        ({"kk": 1}, "kk is not a setting of this analysis; the settings are k, share, mode, flag"),
    ],
)
def test_a_bad_setting_is_refused_by_name(values, words):
    with pytest.raises(BadConfig, match="^" + words.replace("(", r"\(")):
        make_config(Config, values)


def test_a_whole_number_is_a_fine_float():
    assert make_config(Config, {"share": 1}).share == 1.0


def test_settings_carry_help_unit_and_bounds():
    k = settings_of(Config)[0]
    assert (k.name, k.type, k.default, k.help, k.unit, k.ge, k.le, k.result) == ("k", int, 3, "how many", "neurons", 1, 10, True)
    assert not settings_of(Config)[3].result


TABLE = Table(
    "t",
    "A table.",
    ("i",),
    (
        Column("i", "int", "index"),
        Column("x", "float", "value", unit="nats", range=(0, 1), optional=True, evidence="O"),
        Column("h", "list[int]", "counts", range=(0, 100)),
    ),
)


def test_rows_become_the_declared_types():
    table = TABLE.arrow({"i": [0, 1], "x": [0.5, None], "h": [[1, 2], []]})
    assert table.to_pydict() == {"i": [0, 1], "x": [0.5, None], "h": [[1, 2], []]}
    assert table.schema == TABLE.arrow_schema


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ({"i": [0], "x": [0.5]}, "missing"),
        ({"i": [0], "x": [0.5], "h": [[1]], "z": [1]}, "undeclared"),
        ({"i": [None], "x": [0.5], "h": [[1]]}, "NULL"),
        ({"i": [0], "x": [float("nan")], "h": [[1]]}, "NaN"),
        ({"i": [0], "x": [1.5], "h": [[1]]}, "declared"),
        ({"i": [0], "x": [0.5], "h": [[101]]}, "declared"),
    ],
)
def test_rows_the_declaration_does_not_allow_are_refused(rows, words):
    with pytest.raises(BadRows, match=words):
        TABLE.arrow(rows)


def test_a_comment_carries_meaning_unit_range_and_evidence():
    assert TABLE["x"].comment == "value; unit: nats; range: 0 to 1; our own definition"

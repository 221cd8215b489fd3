"""What every registered analysis promises, checked on all of them; and what a new one gets for free from one file."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from analysis import ANALYSES
from analysis.__main__ import describe, parser
from analysis.glossary import glossary
from analysis.runner import layout_of, run, run_key
from analysis.spec import BadConfig, make_config, settings_of
from store import Store
from tests.toy import TOY, FakeSubject, ToyConfig, make_run

ROOT = Path(__file__).resolve().parent.parent
EVERY = [*ANALYSES, TOY]
ids = [a.slug for a in EVERY]


@pytest.mark.parametrize("analysis", EVERY, ids=ids)
def test_the_default_config_is_valid(analysis):
    made = make_config(analysis.config, {s.name: s.default for s in settings_of(analysis.config)})
    assert made == analysis.config()


@pytest.mark.parametrize("analysis", EVERY, ids=ids)
def test_every_setting_has_help_and_bounds_and_refuses_what_lies_outside(analysis):
    for s in settings_of(analysis.config):
        assert s.help[0].isupper(), s.name
        assert not s.help.endswith("."), s.name
        if s.type in (int, float):
            assert s.ge is not None, s.name
            assert s.le is not None, s.name
            for outside in (s.ge - 1, s.le + 1):
                with pytest.raises(BadConfig, match=f"^{s.name} must be"):
                    make_config(analysis.config, {s.name: s.type(outside)})


@pytest.mark.parametrize("analysis", EVERY, ids=ids)
def test_every_column_says_what_it_means(analysis):
    names = [t.name for t in analysis.tables]
    assert len(set(names)) == len(names)
    for table in analysis.tables:
        assert table.meaning.endswith("."), table.name
        assert set(table.key) <= {c.name for c in table.columns}, table.name
        for column in table.columns:
            assert column.meaning, column.name
            assert column.name.isidentifier(), column.name
            assert column.name == column.name.lower(), column.name
            if column.optional:
                words = column.meaning.lower()
                assert "null" in words, f"{table.name}.{column.name} must say when it is NULL"
            assert column.name not in table.key or not column.optional


@pytest.mark.parametrize("analysis", EVERY, ids=ids)
def test_every_figure_reads_declared_columns_of_a_declared_table(analysis):
    assert analysis.figures, "people look before they read: every analysis has a picture"
    for figure in analysis.figures:
        assert set(figure.columns) <= {c.name for c in analysis.table(figure.table).columns}


@pytest.mark.parametrize("analysis", EVERY, ids=ids)
def test_the_layout_carries_a_comment_for_every_column(analysis):
    for table in analysis.tables:
        layout = layout_of(table)
        assert set(layout.columns) == set(layout.schema.names)
        assert all(layout.columns.values())


@pytest.mark.parametrize("analysis", EVERY, ids=ids)
def test_flags_and_help_come_from_the_declaration(analysis, capsys, monkeypatch):
    monkeypatch.setattr("analysis.__main__.ANALYSES", EVERY)
    with pytest.raises(SystemExit):
        parser().parse_args(["run", analysis.slug, "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    for s in settings_of(analysis.config):
        assert f"--{s.name.replace('_', '-')}" in shown
    text = describe(analysis)
    for table in analysis.tables:
        assert all(c.name in text for c in table.columns)


def test_every_file_of_questions_is_registered():
    """A file that makes an Analysis but stands in no list would never be met."""
    made = set()
    for folder in ("weights", "neurons", "attention", "latents", "quality", "sensitivity"):
        for path in (ROOT / "analysis" / folder).glob("*.py"):
            tree = ast.parse(path.read_text())
            made |= {
                n.targets[0].id
                for n in tree.body
                if isinstance(n, ast.Assign) and isinstance(n.value, ast.Call) and getattr(n.value.func, "id", "") == "Analysis"
            }
    import analysis

    assert {name for name in made if getattr(analysis, name, None) in ANALYSES} == made
    assert len(made) == len(ANALYSES)


def test_the_glossary_is_in_step():
    assert (ROOT / "docs" / "glossary.md").read_text() == glossary(ANALYSES), "run: python -m analysis glossary > docs/glossary.md"


# ---------------------------------------------------------------------------------------------------------------------
# The key


def key(subject=None, **settings):
    return run_key(TOY, ToyConfig(**settings), {"model": subject or FakeSubject()})


def test_the_readme_lists_every_analysis_with_its_question():
    readme = (ROOT / "README.md").read_text()
    assert [f"| `{a.slug}` | {a.question} |" for a in ANALYSES] == [line for line in readme.splitlines() if line.startswith("| `")]


def test_the_key_changes_with_what_changes_numbers():
    assert key() == key()
    assert key(seed=1) != key()
    assert key(FakeSubject(name="other")) != key()
    assert key(FakeSubject(dtype="bfloat16")) != key()
    assert len(key()) == 16


def test_a_static_question_does_not_depend_on_the_data():
    from analysis.weights.weight_sparsity import WEIGHT_SPARSITY, WeightSparsityConfig

    def static(data):
        subject = FakeSubject()
        subject.data.name = data
        return run_key(WEIGHT_SPARSITY, WeightSparsityConfig(), {"model": subject})

    def dynamic(data):
        subject = FakeSubject()
        subject.data.name = data
        return key(subject)

    assert static("one") == static("two")
    assert dynamic("one") != dynamic("two")


def test_a_setting_that_changes_speed_only_is_not_in_the_key():
    from analysis.neurons.neuron_activity import NEURON_ACTIVITY, NeuronActivityConfig

    subject = {"model": FakeSubject()}
    keys = {run_key(NEURON_ACTIVITY, NeuronActivityConfig(batch_tokens=b), subject) for b in (256, 1024)}
    assert len(keys) == 1
    assert run_key(NEURON_ACTIVITY, NeuronActivityConfig(active=0.02), subject) not in keys


# ---------------------------------------------------------------------------------------------------------------------
# One file is enough


def test_a_new_analysis_gets_its_sealed_file_with_comments_from_one_file(tmp_path):
    store = Store(tmp_path)
    info = run(TOY, {"model": FakeSubject()}, ToyConfig(), store)
    import duckdb

    with duckdb.connect(str(info.path), read_only=True) as connection:
        rows = connection.execute("select column_name, comment from duckdb_columns() where not internal").fetchall()
    comments = dict(rows)
    assert all(comments.values())
    assert comments["share"] == TOY.table("layers")["share"].comment
    assert run(TOY, {"model": FakeSubject()}, ToyConfig(), store).id == info.id, "the store is the cache"
    assert run(TOY, {"model": FakeSubject()}, ToyConfig(), store, force=True).id != info.id


def test_the_newest_run_is_first_also_of_those_of_one_second(tmp_path):
    store = Store(tmp_path)
    made = [make_run(store, n_layers=layers).id for layers in (2, 3, 4, 5, 6)]
    assert [one.id for one in store.runs()] == made[::-1]


def test_what_a_killed_clearing_left_goes_when_the_run_is_asked_for_again(tmp_path):
    store, subject = Store(tmp_path), {"model": FakeSubject()}
    made = run(TOY, subject, ToyConfig(), store)
    (store.runs_folder / f".{made.key}-1.0123456789ab.tmp" / "part-000001").mkdir(parents=True)
    assert run(TOY, subject, ToyConfig(), store).id == made.id
    assert not list(store.runs_folder.glob(".*.tmp"))


def test_same_seed_same_rows(tmp_path):
    one, two = (run(TOY, {"model": FakeSubject()}, ToyConfig(), Store(tmp_path / n)) for n in "ab")
    for table in TOY.tables:
        a, b = (Store(tmp_path / n).read(i, table.name, order_by=list(table.key)) for n, i in zip("ab", (one, two)))
        assert a.to_json() == b.to_json()


@pytest.mark.parametrize("figure", TOY.figures, ids=lambda f: f.slug)
def test_a_figure_draws_from_stored_rows(tmp_path, figure):
    from figures.paper import to_matplotlib
    from figures.screen import to_plotly

    store = Store(tmp_path)
    info = run(TOY, {"model": FakeSubject()}, ToyConfig(), store)
    spec = figure.draw(store.read(info, figure.table), store.provenance(info))
    assert to_plotly(spec).data
    assert to_matplotlib(spec).axes

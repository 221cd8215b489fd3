"""Labels and notes on every kind of unit: written on its page, found in the list of all, there and back through files; links and embeds."""

import re
import shutil
from html.parser import HTMLParser
from urllib.parse import parse_qs, urlsplit

import pytest

from analysis.live.playing import UnitRef
from store import Store, label_files
from tests.toy import HOSTILE
from tests.unit_runs import make_units
from ui.links import address, embed_code

DATA = "pages/data.py"
KINDS = ("neuron", "head", "tensor", "latent")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The sealed runs, made once."""
    folder = tmp_path_factory.mktemp("units")
    store = Store(folder / "store")
    yield store, make_units(store, folder)
    store.close()


@pytest.fixture
def units(store, made):
    """Copies of the runs in the store that the pages show."""
    for path in made[0].runs_folder.glob("*.duckdb"):
        shutil.copy(path, store.runs_folder / path.name)
    store.reconcile()
    return made[1]


def words_of(at):
    kinds = (at.title, at.header, at.markdown, at.caption, at.info, at.warning, at.error, at.success)
    return re.sub(r"[\\\u2060]", "", "\n".join(str(one.value) for kind in kinds for one in kind))


def open_unit(open_page, units, kind):
    page, run, more = units[kind]
    return open_page(f"pages/{page}.py", run=run.id, **more)


def box(at, label):
    return next(one for one in (*at.text_input, *at.text_area) if one.label == label)


# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_label_and_a_note_are_written_on_the_page_of_every_kind_of_unit(store, units, open_page, kind):
    at = open_unit(open_page, units, kind)
    box(at, "Label").set_value(f"my {kind}").run()
    box(at, "Note").set_value(f"{HOSTILE}\nsecond *line*").run()
    assert not at.exception
    [found] = store.labels.all()
    assert (found.kind, found.text, found.note, found.model) == (kind, f"my {kind}", f"{HOSTILE}\nsecond *line*", units[kind][1].model)
    again = open_unit(open_page, units, kind)
    assert box(again, "Label").value == f"my {kind}" and f"{HOSTILE}  \nsecond *line*" in words_of(again)
    box(again, "Label").set_value("").run()
    box(again, "Note").set_value("").run()
    assert store.labels.all() == []


def test_the_list_of_all_leads_to_every_unit_and_is_searched(store, units, open_page):
    for kind in KINDS:
        at = open_unit(open_page, units, kind)
        box(at, "Label").set_value(f"my {kind}").run()
    at = open_page(DATA)
    links = {one.proto.label: one.proto for one in at.get("page_link") if "my " in one.proto.label}
    assert len(links) == 4
    for label, proto in links.items():
        kind = next(kind for kind in KINDS if f"my {kind}" in label)
        page, run, more = units[kind]
        query = {name: values[0] for name, values in parse_qs(proto.query_string).items()}
        assert proto.page == page and query.items() >= {"run": run.id, **more}.items()
        shown = open_page(f"pages/{page}.py", **query)
        assert box(shown, "Label").value == f"my {kind}"


def test_a_label_stands_in_the_table_of_its_kind_of_unit(units, open_page):
    pages = {"neuron": ("neurons", "unit"), "head": ("attention", "name"), "latent": ("latents", "latent"), "tensor": ("weights", "tensor")}
    for kind, (page, name) in pages.items():
        before = open_page(f"pages/{page}.py", run=units[kind][1].id)
        assert not [one for one in before.dataframe if name in one.value.columns and "label" in one.value.columns]
        box(open_unit(open_page, units, kind), "Label").set_value(f"my {kind}").run()
        after = open_page(f"pages/{page}.py", run=units[kind][1].id, rows="250")
        [table] = [one.value for one in after.dataframe if name in one.value.columns and "label" in one.value.columns]
        assert table.loc[table["label"].notna(), "label"].tolist() == [f"my {kind}"]


def test_a_label_whose_run_is_not_here_stays_in_the_list_without_a_link(store, open_page):
    store.labels.write("weights of another store", f"{HOSTILE} 3", HOSTILE, note=HOSTILE, kind="neuron", model=HOSTILE)
    at = open_page(DATA)
    assert HOSTILE in words_of(at) and "No run of this store shows it." in words_of(at)
    for one in (*at.markdown, *at.caption):
        assert "<img" not in re.sub(r"(`+).*?\1", "", str(one.value)).replace("\\<", ""), one.value


def test_labels_of_another_file_are_brought_in_and_what_differs_is_told(store, open_page, tmp_path):
    elsewhere = Store(tmp_path / "elsewhere")
    for unit, text in (("1", "new here"), ("2", "theirs")):
        elsewhere.labels.write("sae x", unit, text)
    store.labels.write("sae x", "2", "ours, written later")
    at = open_page(DATA)
    at.file_uploader(key="labels-file").set_value(("labels.csv", label_files.as_csv(elsewhere.labels.all()).encode(), "text/csv")).run()
    at.button(key="labels-in").click().run()
    assert not at.exception
    assert {one.unit: one.text for one in store.labels.all()} == {"1": "new here", "2": "ours, written later"}
    text = words_of(at)
    assert "1 label added, 0 were here already." in text and "1 unit had another label or note here:" in text
    assert "'theirs'; the one here stays" in text


def test_a_file_that_is_none_of_labels_is_refused_on_the_page(store, open_page):
    at = open_page(DATA)
    at.file_uploader(key="labels-file").set_value(("x.json", b"{}", "application/json")).run()
    at.button(key="labels-in").click().run()
    assert '"format"' in words_of(at) and store.labels.all() == []


# ---------------------------------------------------------------------------------------------------------------------
# Links and embeds


class _Frame(HTMLParser):
    def handle_starttag(self, tag, attrs):
        assert tag == "iframe"
        self.attributes = dict(attrs)


def test_the_code_to_embed_is_one_frame_whatever_the_names_hold():
    code = embed_code("http://127.0.0.1:8501/neuron?old=1", {"run": "a-1", "hook": '"><script>'}, f'{HOSTILE} "quoted"\n')
    frame = _Frame()
    frame.feed(code)
    assert frame.attributes["title"] == f'{HOSTILE} "quoted"↵'
    source = urlsplit(frame.attributes["src"])
    assert parse_qs(source.query) == {"run": ["a-1"], "hook": ['"><script>'], "embed": ["true"]}
    assert source.path == "/neuron" and "old" not in source.query


@pytest.mark.parametrize("kind", KINDS)
def test_every_unit_has_its_link_and_its_code_to_embed(units, open_page, kind):
    at = open_unit(open_page, units, kind)
    page, run, _ = units[kind]
    assert any(f"run={run.id}" in code.value and "iframe" not in code.value for code in at.code)
    [code] = [code.value for code in at.code if "<iframe" in code.value]
    assert f"run={run.id}" in code and "embed=true" in code


@pytest.mark.parametrize("page", ["home", "start", "runs", "neurons", "attention", "latents", "weights", "data", "checkpoint"])
def test_every_page_has_a_link_to_its_view(units, open_page, page):
    at = open_page(f"pages/{page}.py")
    assert "under this address" in words_of(at)


def test_an_address_holds_the_view_and_nothing_of_the_old_query():
    assert address("http://h:1/neuron?x=1#top", {"run": "a b"}) == "http://h:1/neuron?run=a+b"


@pytest.mark.parametrize(("kind", "unit"), [("neuron", "neuron 1:7"), ("head", "head {layer}:1")])
def test_a_unit_leads_into_the_playground_by_the_name_it_is_read_by_there(units, open_page, kind, unit):
    [link] = [one.proto for one in open_unit(open_page, units, kind).get("page_link") if one.proto.page == "playground"]
    named = unit.format(**units[kind][2])
    assert parse_qs(link.query_string)["unit"] == [named]
    assert str(UnitRef.of_text(named)) == named

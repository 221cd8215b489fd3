"""Captions, LaTeX tables and references: foreign text stays text, every source is found or said to have no entry."""

import pandas as pd
import pytest

from figures.bibliography import entries, resolve
from figures.captions import caption_latex, caption_lines
from figures.latex import escape, table
from figures.pgf import engine, why_not
from figures.spec import FigureError


def declared():
    """Every source that an analysis, an intervention or a ratio declares."""
    import importlib
    import pkgutil

    import analysis.interventions.ratios as ratios
    from analysis import ANALYSES
    from analysis.interventions.catalogue import INTERVENTIONS

    found = {source for one in (*ANALYSES, *INTERVENTIONS) for source in one.sources}
    for module in pkgutil.iter_modules(ratios.__path__):
        for one in vars(importlib.import_module(f"{ratios.__name__}.{module.name}")).values():
            sources = getattr(one, "sources", ())
            found |= set(sources) if isinstance(sources, tuple) else set()
    return sorted(found, key=lambda one: (one.title, one.reference))


NOT_PAPERS = {"Base statistics of weights", "Logit lens of decoder directions, feature dashboards"}
"""Definitions read in programs, for which METHODS names no publication."""


def test_every_declared_source_is_found_or_is_no_publication():
    for source in declared():
        found = resolve([{"title": source.title, "reference": source.reference}])
        ours = source.evidence == "O" or source.title in NOT_PAPERS
        assert bool(found.entries) != ours, source
        assert bool(found.without) == ours, source
    assert len(declared()) > 120


def test_no_entry_is_invented_each_is_a_source_that_the_code_declares():
    asked = resolve([{"title": one.title, "reference": one.reference} for one in declared()]).entries
    assert {one.key for one in entries()} == {one.key for one in asked}
    assert len({one.key for one in entries()}) == len(entries())


@pytest.mark.parametrize(
    ("title", "reference", "keys"),
    [
        ("A talk on one-shot pruning", "Frantar and Alistarh, 2301.00774", ["frantar2023sparsegpt"]),
        ("H2O: Heavy-Hitter Oracle", "a talk", ["zhang2023h2o"]),
        ("Disagreement of heads as implemented by Michel et al.", "x", ["michel2019sixteen", "li2018disagreement"]),
        ("The", "nothing", []),
        ("Something of ours", "docs/methods.md", []),
        ("Anything", "arXiv 2301.007740", []),
    ],
)  # fmt: skip
def test_a_source_is_found_by_its_number_or_by_how_its_title_begins(title, reference, keys):
    assert [one.key for one in resolve([{"title": title, "reference": reference}]).entries] == keys


def test_a_paper_declared_twice_is_cited_once_and_its_names_keep_their_capitals():
    twice = [{"title": "Keyformer", "reference": "arXiv 2403.09054"}, {"title": "Keyformer: KV Cache", "reference": "arXiv 2403.09054"}]
    text = resolve(twice).bibtex
    assert text.count("@inproceedings{adnan2024keyformer,") == 1
    assert "  title = {{Keyformer: KV Cache Reduction" in text and "declared" not in text
    assert all(one.bibtex.count("{") == one.bibtex.count("}") for one in entries())


def test_latex_takes_foreign_text_as_text(hostile):
    assert escape(r"50 % of $x_1$ & \input{a} ~ # ^") == (
        r"50 \% of \$x\_1\$ \& \textbackslash{}input\{a\} \textasciitilde{} \# \textasciicircum{}"
    )
    assert escape("≤ 2 – µ · 東") == r"$\leq$ 2 -- $\mu$ $\cdot$ \texttt{U+6771}"
    made = table(pd.DataFrame({"name": hostile, "v": range(len(hostile))}), headings={}, caption="c", name="a b_c")
    body = made[made.index(r"\midrule") : made.index(r"\bottomrule")].rstrip()
    assert len(body.splitlines()) == 1 + len(hostile)
    assert all(line.endswith(r" \\") for line in body.splitlines()[1:])
    for bad in ("$x$", "%{", "\n    a\nb", "<img", " #1"):
        assert bad not in body, bad
    assert r"\label{tab:a-b-c}" in made


def test_a_latex_table_has_rules_headings_with_units_and_numbers_to_the_right():
    frame = pd.DataFrame({"layer": [0, 1], "share": [0.123456, None], "name": ["q_proj", None], "ok": [True, False]})
    made = table(frame, headings={"share": "Zeros (share)"}, caption="Two rows.", name="t")
    assert r"\begin{tabular}{rrll}" in made
    rows = [line.strip() for line in made.splitlines()]
    assert rows[rows.index(r"\toprule") + 1] == r"layer & Zeros (share) & name & ok \\"
    assert r"0 & 0.1235 & q\_proj & yes \\" in rows and r"1 & -- & -- & no \\" in rows
    with pytest.raises(FigureError, match="at most 100 rows and 12 columns, got 101 and 4; take the CSV file"):
        table(pd.concat([frame] * 51).iloc[:101], headings={}, caption="", name="t")


def test_a_caption_says_only_what_is_recorded(specs):
    assert caption_lines(specs["bars"], {}) == ("Share of zeros, 4 tensors.",)
    assert caption_lines(specs["bars"], {"model": "m"})[1:] == ("Model: m.",)
    assert r"\cite" not in caption_latex(specs["bars"], {"model": "m"}, file="figure.pdf", name="x")


def test_pgf_says_in_one_sentence_that_it_needs_tex(specs, provenance):
    from figures.export import render

    if engine() is None:
        with pytest.raises(FigureError, match="PGF needs a TeX engine .* install one or take PDF"):
            render(specs["bars"], "pgf", provenance)
    else:
        assert b"\\begin{pgfpicture}" in render(specs["bars"], "pgf", provenance)
        assert why_not(specs["bars"]) is None


FAKE_TEX = '''#!/usr/bin/env python3
"""Answers as TeX does when matplotlib asks how wide a text is; keeps what it was asked."""
import re, sys
log = open(LOG, "a")
print("*pgf_backend_query_start\\n*", end="", flush=True)
for line in sys.stdin:
    log.write(line)
    log.flush()
    if line.startswith("{\\\\catcode"):
        print("10.0pt,7.0pt,2.0pt\\n\\n*", end="", flush=True)
'''


def test_pgf_gives_tex_no_command_out_of_a_name(specs, hostile_specs, tmp_path, monkeypatch):
    """A stand-in for TeX, which only measures: what matplotlib hands it and what the file holds is what TeX would run."""
    from figures import pgf
    from figures.presets import find_preset

    log, fake = tmp_path / "log", tmp_path / "lualatex"
    fake.write_text(FAKE_TEX.replace("LOG", repr(str(log))))
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert pgf.engine() == "lualatex"
    for spec in (*specs.values(), *hostile_specs.values()):
        made = pgf.render(spec, preset=find_preset("icml-single"), title=True)
        assert made == pgf.render(spec, preset=find_preset("icml-single"), title=True)
        assert b"\\begin{pgfpicture}" in made and rb"\pgfqpoint{3.250000in}" in made
        assert b"includegraphics" not in made, "an image would be a file of its own"
        drawn = made[made.index(b"\\begin{pgfpicture}") :]
        assert b"%{y}" not in drawn and b" #1" not in drawn
    asked = log.read_text()
    assert r"\textdollar{}x\textdollar{} and \textdollar{}y\textdollar{}" in asked and r"\%\{y\}" in asked

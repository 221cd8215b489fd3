"""A report as one HTML file: light, printable, nothing in it that runs and nothing outside it that is asked for.

Figures are pictures inside the file, vector where that is small. Everything that comes from models and files is escaped. The same runs
give the same bytes.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

from analysis.report.gathering import Answer, Report, Shown, gather, shown_figure
from analysis.report.glance import bar_code_spec
from analysis.spec import EVIDENCE_WORDS, Analysis
from figures.prepared import caption
from figures.spec import FigureSpec
from figures.words import count, moment, percent, tokens_seen, value, visible
from store import RunInfo, Store

VECTOR_BYTES = 400_000
"""A drawing larger than this (a scatter of thousands of points) goes in as a picture of 300 dots per inch."""
_WIDTH_IN = 6.75
_STYLE = """
:root{color-scheme:light}body{margin:0;background:#fff;color:#1b2430;font:16px/1.5 system-ui,sans-serif}
main{max-width:50rem;margin:0 auto;padding:2rem 1.25rem 4rem}h1{font-size:1.8rem;line-height:1.2;margin:0 0 .25rem;overflow-wrap:anywhere}
h2{font-size:1.3rem;margin:2.5rem 0 .25rem;border-top:1px solid #c8d0da;padding-top:1rem}h3{font-size:1rem;margin:1.25rem 0 .25rem}
p{margin:.4rem 0}.quiet,figcaption,dl,footer{color:#4a5563;font-size:.9rem}.question{font-style:italic}
table{border-collapse:collapse;width:100%;margin:.75rem 0;font-size:.95rem}caption{text-align:left;color:#4a5563;font-size:.9rem}
th,td{text-align:left;vertical-align:top;padding:.3rem .6rem .3rem 0;border-bottom:1px solid #dfe4ea}td.number{white-space:nowrap;
font-variant-numeric:tabular-nums;font-weight:600}figure{margin:1rem 0}img{display:block;width:100%;height:auto}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.1rem .9rem}dt{font-weight:600}dd{margin:0;overflow-wrap:anywhere}
a{color:#0b5cad}footer{margin-top:3rem;border-top:1px solid #c8d0da;padding-top:1rem}
@media(max-width:34rem){dl{grid-template-columns:1fr}dd{margin-bottom:.3rem}th,td{padding-right:.4rem}}
@media print{main{max-width:none;padding:0}figure,tr{break-inside:avoid}h2,h3{break-after:avoid}a{color:inherit;text-decoration:none}}
"""


def report_html(store: Store, runs: Sequence[RunInfo]) -> bytes:
    """The file for the model that these sealed runs, newest first, are of."""
    report = gather(runs)
    shown = [(answer, shown_figure(store, answer)) for answer in report.answers]
    glance = bar_code_spec([answer.run for answer in report.answers], report.label)
    body = [*_head(report), *_numbers(report), *_glance(glance, report)]
    body += [line for answer, figure in shown for line in _section(answer, figure)]
    body += [*_unmeasured(report), *_foot(report)]
    title = f"<title>{text(report.name)} · Sparsescope report</title>"
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">{title}<style>{_STYLE}</style>'
    lines = ["<!doctype html>", '<html lang="en">', f"<head>{head}</head>", "<body><main>", *body, "</main></body>", "</html>", ""]
    return "\n".join(lines).encode()


def text(one: Any) -> str:
    """Anything as HTML that shows exactly it."""
    return escape(visible(str(one)), quote=True)


# ---------------------------------------------------------------------------------------------------------------------


def _head(report: Report) -> Iterator[str]:
    yield f"<h1>{text(report.label)}</h1>"
    named = [report.name] if report.name != report.label else []
    facts = [f"{name.replace('_', ' ')} {value(one)}" for name, one in report.facts.items() if _is_short(one)]
    prints = [f"weights {report.weights[:16]}"] if report.weights else []
    yield f'<p class="quiet">{text(" · ".join([*named, *facts, *prints]))}</p>'
    sections = [("in-numbers", "In numbers")] if any(answer.headlines for answer in report.answers) else []
    sections += [(answer.analysis.slug, answer.analysis.title) for answer in report.answers]
    links = "".join(
        f'<li><a href="#{text(slug)}">{text(title)}</a></li>' for slug, title in (*sections, ("unmeasured", "What was not measured"))
    )
    yield f'<nav aria-label="Contents"><ul>{links}</ul></nav>'


def _is_short(one: Any) -> bool:
    """Whether a fact goes on one line; paths of the machine that measured stay there."""
    return isinstance(one, (bool, int, float)) or (isinstance(one, str) and 0 < len(one) <= 60 and not one.startswith(("/", "~")))


def _numbers(report: Report) -> Iterator[str]:
    """Every headline number, with what it was counted over."""
    rows = [(answer, one) for answer in report.answers for one in answer.headlines]
    if not rows:
        return
    yield '<h2 id="in-numbers">In numbers</h2><table><caption>Shares, each with what it is a share of.</caption>'
    yield '<thead><tr><th scope="col">Number</th><th scope="col">Value</th><th scope="col">Of what</th></tr></thead><tbody>'
    for _, one in rows:
        yield f'<tr><th scope="row">{text(one.label)}</th><td class="number">{text(percent(one.share))}</td><td>{text(one.over)}</td></tr>'
    yield "</tbody></table>"


def _glance(spec: FigureSpec | None, report: Report) -> Iterator[str]:
    if spec is not None:
        runs = ", ".join(answer.run.id for answer in report.answers if answer.analysis.stripes)
        yield "<h2>Layer by layer</h2>"
        yield from _figure(spec, {"model": report.name, "runs": runs})


def _section(answer: Answer, shown: Shown) -> Iterator[str]:
    yield f'<section id="{text(answer.analysis.slug)}"><h2>{text(answer.analysis.title)}</h2>'
    yield f'<p class="question">{text(answer.analysis.question)}</p>'
    told = [f"{one.label}: {percent(one.share)}" for one in answer.headlines]
    if told:
        yield f"<p><strong>{text('; '.join(told))}.</strong></p>"
    if shown.spec is None:
        yield f"<p>No figure: {text(shown.why)}</p>"
    else:
        yield from _figure(shown.spec, _short_provenance(answer.run))
    if answer.n_further:
        more = f"{count(answer.n_further, 'further run')} of this question, on other data or with other settings, not shown."
        yield f'<p class="quiet">{text(more)}</p>'
    yield "<h3>How it was measured</h3>"
    yield f"<dl>{''.join(f'<dt>{text(name)}</dt><dd>{text(words)}</dd>' for name, words in provenance(answer.run))}</dl></section>"


def _figure(spec: FigureSpec, origin: Mapping[str, Any]) -> Iterator[str]:
    """The picture, then its sentence with n and unit, then its limits."""
    sentence, *notes = caption(spec)
    limits = "".join(f"<br>{text(note)}" for note in notes)
    yield f'<figure><img src="{picture(spec, origin)}" alt="{text(f"{spec.title}. {sentence}")}">'
    yield f"<figcaption><strong>{text(spec.title)}.</strong> {text(sentence)}{limits}</figcaption></figure>"


def picture(spec: FigureSpec, origin: Mapping[str, Any]) -> str:
    """The figure as a data address: an image, so that nothing in it can run and its names meet no others."""
    from figures.paper import render

    drawn, kind = render(spec, "svg", origin, width_in=_WIDTH_IN), "svg+xml"
    if len(drawn) > VECTOR_BYTES:
        drawn, kind = render(spec, "png", origin, width_in=_WIDTH_IN), "png"
    return f"data:image/{kind};base64,{base64.b64encode(drawn).decode()}"


def _short_provenance(run: RunInfo) -> dict[str, Any]:
    """What stands inside a picture; the rest is on the page, and paths of the machine in neither."""
    return {"run": run.id, "analysis": run.slug, "version": run.version, "model": run.model, "data": run.data}


def provenance(run: RunInfo) -> list[tuple[str, str]]:
    """How the numbers of a run were made, a label and a text each."""
    record = run.provenance
    tokens = tokens_seen(record)
    data = (
        "none: this question reads weights alone"
        if not run.data
        else run.data + (f", {count(tokens, 'token')}" if tokens is not None else "")
    )
    computed = [value(record.get("dtype")), f"on {value(record.get('device'))}", f"seed {value(record.get('seed'))}"]
    rows = [
        ("Analysis", f"{run.slug}, version {run.version}"),
        ("Data", data),
        ("Settings", "; ".join(f"{name} {value(one) or 'empty'}" for name, one in run.config.items()) or "none"),
        ("Computed", ", ".join(computed)),
        ("Made", moment(run.started)),
        ("Run", run.id),
    ]
    versions = record.get("versions") or {}
    rows += [("Versions", ", ".join(f"{name} {version}" for name, version in versions.items()))] if versions else []
    rows += [("Commit", str(record["commit"]))] if record.get("commit") else []
    sources = [
        f"{one['title']}, {one['reference']} ({EVIDENCE_WORDS.get(one['evidence'], 'evidence not stated')})"
        for one in record.get("sources") or ()
    ]
    return rows + ([("Definitions", "; ".join(sources))] if sources else [])


def _unmeasured(report: Report) -> Iterator[str]:
    yield '<h2 id="unmeasured">What was not measured</h2>'
    if report.outdated:
        yield "<p>Answered by another version of the analysis only, whose numbers mean something else:</p>"
        yield _questions(report.outdated)
    if report.unasked:
        yield f"<p>{text(count(len(report.unasked), 'question'))} that Sparsescope can ask and that nobody has asked of this model:</p>"
        yield _questions(report.unasked)
    if not report.outdated and not report.unasked:
        yield "<p>Nothing: every question that Sparsescope knows has been answered.</p>"


def _questions(asked: Sequence[Analysis]) -> str:
    return f"<ul>{''.join(f'<li><strong>{text(one.title)}</strong>: {text(one.question)}</li>' for one in asked)}</ul>"


def _foot(report: Report) -> Iterator[str]:
    runs = ", ".join(answer.run.id for answer in report.answers)
    yield f"<footer><p>Made with Sparsescope from sealed runs alone: {text(runs or 'none that today’s versions can read')}.</p></footer>"

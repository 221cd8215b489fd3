"""Uploads by their routes, and the page of a model: what is refused, in which words, and what is left of it."""

from __future__ import annotations

import asyncio
import json
import os
import re
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.testclient import TestClient

from analysis.jobs import Jobs, processes
from analysis.models.files.quarantine import STALE_S, Quarantine
from analysis.spec import UserError
from store import Store
from tests.toy import HOSTILE
from tests.ui.test_pages import links_of, words_of
from ui import folders
from ui.checkpoint.modules import MOST_AREAS, modules_at, treemap
from ui.serve import FOLDERS_VARIABLE, allowed_folders, serve_command
from ui.uploads import kept, route

HOST = "http://127.0.0.1:8501"
NASTY = "<b>x</b>.'; DROP TABLE runs;--.weight"


@pytest.fixture(autouse=True)
def machine(tmp_path, monkeypatch, own_cache, store):
    """A store and a cache of one's own; only this test's folder may be opened; no process is started for a job."""
    monkeypatch.setenv(FOLDERS_VARIABLE, str(tmp_path))
    monkeypatch.setattr(processes, "start", lambda *_: processes.identity())
    kept._opened.cache_clear()
    route._checks.clear()


@pytest.fixture
def client():
    with TestClient(Starlette(routes=list(route.routes())), base_url=HOST) as made:
        yield made


@pytest.fixture
def content(tmp_path):
    """A small safetensors file as bytes; one tensor has a name that would like to be HTML and SQL."""
    tensors = {"layer.weight": np.ones((50, 40), np.float32), NASTY: np.ones((3, 4), np.float32)}
    save_file(tensors, tmp_path / "sent.safetensors", metadata={"note": HOSTILE})
    return (tmp_path / "sent.safetensors").read_bytes()


def begin(client, size, name="a.safetensors", token=None, **more):
    headers = {"X-Upload-Token": kept.quarantine().token() if token is None else token} | more.pop("headers", {})
    return client.post(route.ROUTE, json={"name": name, "bytes": size}, headers=headers)


def send(client, content, name="a.safetensors", chunk=3000, wait=True):
    """Send it in chunks and finish it; the last answer."""
    upload = begin(client, len(content), name).json()["upload"]
    for offset in range(0, len(content), chunk):
        answer = client.put(f"{route.ROUTE}/{upload}?offset={offset}", content=content[offset : offset + chunk])
        assert answer.status_code == 200, answer.text
    answer = client.post(f"{route.ROUTE}/{upload}/finish")
    while wait and answer.status_code == 202:
        answer = client.post(f"{route.ROUTE}/{upload}/finish")
    return answer


def left():
    """What lies in the folder of uploads."""
    return sorted(one.name for one in kept.quarantine().folder.iterdir() if one.name != ".lock")


def refusal(answer):
    return answer.status_code, answer.json()["refusal"]


# -- the routes -------------------------------------------------------------------------------------------------------


def test_a_file_sent_in_chunks_arrives_as_it_was_and_under_its_own_name(client, content):
    answer = send(client, content, name="../../my <b>model</b>.safetensors")
    assert answer.status_code == 200
    found = kept.quarantine().get(answer.json()["upload"])
    assert found.path.read_bytes() == content and answer.json()["name"] == found.name == "b>.safetensors"
    assert kept.shown(str(found.path)) == found.name and kept.upload_of(str(found.path)) == found.id
    assert kept.shown("/etc/passwd") == "/etc/passwd" and kept.upload_of("/etc/passwd") is None and kept.upload_of("smollm2") is None


def test_an_answer_that_was_lost_can_be_asked_for_again(client, content):
    first = send(client, content)
    again = client.post(f"{route.ROUTE}/{first.json()['upload']}/finish")
    assert again.json() == first.json() and again.status_code == 200


def test_a_token_is_good_for_one_upload_and_a_made_up_one_for_none(client):
    token = kept.quarantine().token()
    assert begin(client, 10, token=token).status_code == 201
    for wrong in (token, "x" * 43, "../../etc/passwd", ""):
        status, words = refusal(begin(client, 10, token=wrong))
        assert status == 403 and words.startswith("an upload must be allowed by a page of this app")


def test_cap_quota_and_full_disk_are_told_apart(client, store, monkeypatch):
    def limited(**limits):
        made = Quarantine(store.folder / kept.FOLDER, **{"cap": 100, "quota": 150, "keep_free": 0} | limits)
        monkeypatch.setattr(kept, "quarantine", lambda: made)

    limited()
    assert refusal(begin(client, 101)) == (
        413,
        "an upload must have between 1 byte and 100 bytes, got 101 bytes; give a path on the server instead.",
    )
    assert begin(client, 0).status_code == 413
    assert begin(client, 90).status_code == 201
    status, words = refusal(begin(client, 90))
    assert status == 507 and "at most 150 bytes together" in words
    limited(quota=10**6, keep_free=10**18)
    status, words = refusal(begin(client, 90))
    assert status == 507 and "of the disk free" in words
    assert not [name for name in left() if name.endswith(".token")]  # a refusal uses a token up, too


def test_a_chunk_out_of_order_is_refused_and_the_server_says_where_to_go_on(client):
    upload = begin(client, 1000).json()["upload"]
    where = f"{route.ROUTE}/{upload}"
    client.put(f"{where}?offset=0", content=b"x" * 400)
    for wrong in (0, 399, 401, 10**9):
        assert refusal(client.put(f"{where}?offset={wrong}", content=b"y" * 10)) == (
            409,
            f"the next chunk must begin at byte 400, got {wrong:,}; go on from there.",
        )
    assert client.get(where).json() == {"received": 400}
    assert refusal(client.post(f"{where}/finish"))[0] == 409
    for wrong in ("", "-1", "1e3", "９", "9" * 40):
        assert client.put(where, params={"offset": wrong}, content=b"y").status_code == 422


def test_more_bytes_than_announced_end_the_upload(client):
    upload = begin(client, 10).json()["upload"]
    status, words = refusal(client.put(f"{route.ROUTE}/{upload}?offset=0", content=b"x" * 11))
    assert status == 413 and "must have the 10 bytes it announced" in words and left() == []


def test_a_body_of_many_pieces_is_written_block_by_block(client, monkeypatch):
    monkeypatch.setattr(route, "BLOCK", 1000)
    sizes = []
    real = Quarantine.write

    def write(self, upload, offset, chunk):
        sizes.append(len(chunk))
        return real(self, upload, offset, chunk)

    monkeypatch.setattr(Quarantine, "write", write)
    upload = begin(client, 50_000).json()["upload"]
    pieces = iter([b"x" * 499] * 100 + [b"x" * 100])

    async def receive():
        piece = next(pieces)
        return {"type": "http.request", "body": piece, "more_body": len(piece) != 100}

    scope = {"type": "http", "method": "PUT", "path": "/", "headers": [], "query_string": b"offset=0", "path_params": {"upload": upload}}
    with ThreadPoolExecutor(1) as thread:  # browser tests leave a running loop in this one
        answer = thread.submit(asyncio.run, route.go_on(Request(scope, receive))).result()
    assert json.loads(bytes(answer.body)) == {"received": 50_000}
    assert max(sizes) < 1500 and sum(sizes) == 50_000


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "http://127.0.0.1:9999"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "none"},
        {"Origin": HOST, "Sec-Fetch-Site": "cross-site"},
    ],
)
def test_another_site_can_neither_begin_nor_go_on_nor_end_an_upload(client, headers):
    upload = begin(client, 10, headers={"Origin": HOST, "Sec-Fetch-Site": "same-origin"}).json()["upload"]
    token = kept.quarantine().token()
    where = f"{route.ROUTE}/{upload}"
    answers = [
        begin(client, 10, token=token, headers=headers),
        client.put(f"{where}?offset=0", content=b"x", headers=headers),
        client.get(where, headers=headers),
        client.post(f"{where}/finish", headers=headers),
        client.delete(where, headers=headers),
    ]
    assert {answer.status_code for answer in answers} == {403}
    assert client.get(where).json() == {"received": 0}
    assert begin(client, 10, token=token).status_code == 201  # the foreign request has not used it up


def test_what_is_no_request_of_the_page_is_refused(client):
    headers = {"X-Upload-Token": kept.quarantine().token()}
    for body in (
        b"",
        b"no json",
        b"[" * 3000,
        b'{"name": 3, "bytes": 10}',
        b'{"name": "a", "bytes": "10"}',
        b'{"name": "a", "bytes": true}',
        b"[]",
    ):
        assert client.post(route.ROUTE, content=body, headers=headers).status_code == 422
    assert client.post(route.ROUTE, content=b" " * 5000, headers=headers).status_code == 413
    for wrong in ("0" * 32, "..", "%2e%2e%2f%2e%2e", "A" * 32):
        assert client.get(f"{route.ROUTE}/{wrong}").status_code == 404
        assert client.delete(f"{route.ROUTE}/{wrong}").status_code == 404


def test_a_finished_upload_can_be_changed_by_no_route(client, content):
    upload = send(client, content).json()["upload"]
    where = f"{route.ROUTE}/{upload}"
    assert client.delete(where).status_code == client.get(where).status_code == 404
    assert client.put(f"{where}?offset={len(content)}", content=b"x").status_code == 404
    assert kept.quarantine().get(upload).path.read_bytes() == content


def test_a_size_of_four_thousand_digits_is_refused_in_a_short_sentence(client):
    body = b'{"name": "a", "bytes": ' + b"9" * 4000 + b"}"
    answer = client.post(route.ROUTE, content=body, headers={"X-Upload-Token": kept.quarantine().token()})
    assert answer.status_code == 413 and "got more than a billion GB" in answer.json()["refusal"]
    assert left() == []


def test_giving_up_leaves_nothing_and_an_abandoned_upload_is_swept_away(client, monkeypatch):
    client.delete(f"{route.ROUTE}/{begin(client, 10).json()['upload']}")
    assert left() == []
    upload = begin(client, 10).json()["upload"]
    client.put(f"{route.ROUTE}/{upload}?offset=0", content=b"12345")
    kept.quarantine().token()
    old = time.time() - 25 * 3600
    for one in kept.quarantine().folder.iterdir():
        os.utime(one, (old, old))
    kept._opened.cache_clear()
    kept.quarantine()
    assert left() == []


def test_the_server_frees_what_nobody_goes_on_with_and_leaves_what_is_arriving(store):
    with TestClient(Starlette(routes=list(route.routes())), base_url=HOST) as before:
        lost, arriving = (begin(before, 10).json()["upload"] for _ in range(2))
    old = time.time() - STALE_S - 1
    for name in left():
        if name.startswith(lost):
            os.utime(kept.quarantine().folder / name, (old, old))
    with TestClient(Starlette(routes=list(route.routes()), lifespan=route.sweeping), base_url=HOST) as started:
        until = time.monotonic() + 10
        while len(left()) > 2 and time.monotonic() < until:
            time.sleep(0.02)
        assert left() == [f"{arriving}.json", f"{arriving}.part"]
        assert started.get(f"{route.ROUTE}/{lost}").status_code == 404
        assert started.put(f"{route.ROUTE}/{arriving}?offset=0", content=b"12345").json() == {"received": 5}


def test_an_upload_whose_connection_ended_holds_its_room_for_minutes_and_longer_than_a_browser_tries_again():
    script = (Path(route.__file__).parent / "drop.js").read_text()
    tries = int(re.search(r"TRIES = (\d+)", script)[1])
    waits = sum(min(0.5 * 2**tried, 15) for tried in range(tries))
    assert 2 * waits < STALE_S <= 900
    assert f"kept for {'ten' if STALE_S == 600 else '?'} minutes" in script


def test_a_hostile_file_is_refused_with_its_sentence_under_its_own_name_and_leaves_nothing(client, tmp_path):
    import torch

    class Evil:
        def __reduce__(self):
            return (os.system, (f"touch {tmp_path / 'marker'}",))

    torch.save({"a.weight": Evil()}, tmp_path / "evil.pt")
    status, words = refusal(send(client, (tmp_path / "evil.pt").read_bytes(), "evil <i>.pt"))
    assert status == 422 and words.startswith("'evil <i>.pt'") and "system" in words and str(tmp_path) not in words
    status, words = refusal(send(client, b"\x80\x04" + b"x" * 100, "evil.pkl"))
    assert status == 422 and "got 'evil.pkl', a bare pickle, which is a program" in words
    assert left() == [] and not (tmp_path / "marker").exists()


def test_a_long_check_is_told_and_asked_for_again(client, content, monkeypatch):
    monkeypatch.setattr(route, "_PATIENCE_S", 0.05)
    real = kept.check
    monkeypatch.setattr(kept, "check", lambda upload: (time.sleep(0.4), real(upload)))
    answer = send(client, content, wait=False)
    where = f"{route.ROUTE}/{kept.quarantine().uploads()[0].id}/finish"
    assert answer.status_code == 202 and answer.json() == {"checking": True}
    until = time.monotonic() + 20
    while answer.status_code == 202 and time.monotonic() < until:
        answer = client.post(where)
    assert answer.status_code == 200 and answer.json()["name"] == "a.safetensors"


# -- paths ------------------------------------------------------------------------------------------------------------


def test_a_path_outside_of_the_folders_is_refused_also_through_a_link_and_in_the_same_words_if_nothing_is_there(tmp_path, monkeypatch):
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    for one in (inside, outside):
        one.mkdir()
    save_file({"a": np.ones(3, np.float32)}, outside / "secret.safetensors")
    (inside / "link.safetensors").symlink_to(outside / "secret.safetensors")
    (inside / "model").mkdir()
    (inside / "model" / "model.safetensors").symlink_to(outside / "secret.safetensors")
    monkeypatch.setenv(FOLDERS_VARIABLE, str(inside))
    there, nowhere = outside / "secret.safetensors", outside / "nowhere.safetensors"
    said = []
    for path in (there, nowhere, inside / "link.safetensors", inside / "model", inside / ".." / "outside" / "secret.safetensors"):
        with pytest.raises(UserError, match="must lie inside of the folders") as caught:
            folders.check(path)
        said.append(str(caught.value))
    assert {words.partition(", got")[0] for words in said} == {said[0].partition(", got")[0]}
    assert {words.rpartition("; ")[2] for words in said} == {said[0].rpartition("; ")[2]}
    (inside / "real.safetensors").symlink_to(inside / "other.safetensors")
    assert folders.check(inside / "real.safetensors") == inside / "other.safetensors"


def test_what_this_store_has_opened_before_may_be_opened_again(tmp_path, store, monkeypatch):
    monkeypatch.setenv(FOLDERS_VARIABLE, str(tmp_path / "elsewhere"))
    path = str(tmp_path / "m.safetensors")
    save_file({"a": np.ones(3, np.float32)}, path)
    with pytest.raises(UserError, match="must lie inside"):
        folders.check_reference(store, path)
    store.known.add(path, name="m", label="m", source=path, task=None, dtype="float32", fingerprints={"weights": "1"}, facts={})
    assert folders.check_reference(store, path) == path
    assert folders.check_reference(store, "smollm2") == "smollm2" and folders.check_reference(store, "owner/name") == "owner/name"


def test_the_home_folder_is_open_only_where_nobody_else_can_reach_the_dashboard(tmp_path, monkeypatch):
    monkeypatch.delenv(FOLDERS_VARIABLE)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path.parent)
    assert allowed_folders(address="127.0.0.1") == (tmp_path.parent.resolve(), tmp_path.resolve())
    assert allowed_folders(address="0.0.0.0") == (tmp_path.parent.resolve(),)
    _, environment = serve_command("s", address="0.0.0.0", folders=[tmp_path / "a", tmp_path / "b"])
    assert environment[FOLDERS_VARIABLE] == f"{tmp_path / 'a'}{os.pathsep}{tmp_path / 'b'}"


# -- the page ---------------------------------------------------------------------------------------------------------


def shown(at):
    return (words_of(at) + "\n" + "\n".join(one.value for one in at.error)).replace("\\", "").replace("\u2060", "")


def tables_of(at):
    return [one.value for one in at.dataframe]


def buttons_of(at):
    return [one.label for one in at.button]


PAGE = "pages/checkpoint.py"


def test_a_folder_is_shown_from_its_headers_before_anything_is_opened(tiny_llama, open_page):
    at = open_page(PAGE, model=str(tiny_llama))
    assert at.title[0].value == "tiny" and "**LlamaForCausalLM, 2 layers** · a Hugging Face folder of 1 weight file" in shown(at)
    metrics = {one.label: one.value for one in at.metric}
    assert metrics["Tensors"] == "20" and metrics["Parameters"] == "4,560"
    assert "`model.embed_tokens.weight` = `lm_head.weight`" in shown(at)
    names = next(list(table["tensor"]) for table in tables_of(at) if "tensor" in table)
    assert "model.layers.1.mlp.gate_proj.weight" in names and len(names) == 20
    assert buttons_of(at).count("Look inside and ask every question") == 1 and "Not known yet" in shown(at)


def test_a_bare_file_answers_weight_questions_only_and_says_why_before_it_is_opened(tmp_path, content, open_page):
    at = open_page(PAGE, model=str(tmp_path / "sent.safetensors"))
    assert any("**Task loss**" in line and ": there is no config.json" in line for line in shown(at).splitlines())
    forms = {link.label for link in links_of(at)}
    assert "Weight sparsity" in forms and "Task loss" not in forms


def test_names_with_html_and_sql_in_them_are_text(tmp_path, content, open_page):
    at = open_page(PAGE, model=str(tmp_path / "sent.safetensors"))
    tensors = next(table for table in tables_of(at) if "tensor" in table)
    assert NASTY in list(tensors["tensor"])
    metadata = next(table for table in tables_of(at) if "value" in table)
    assert list(metadata["value"]) == [HOSTILE]
    assert "<b>" not in "".join(one.value for one in at.markdown)
    chart = json.loads(at.get("plotly_chart")[0].proto.spec)
    assert "<b>" not in json.dumps(chart["data"]) and "&lt;b&gt;x&lt;/b&gt;" in json.dumps(chart["data"])


def test_tensors_are_searched(tmp_path, content, open_page):
    at = open_page(PAGE, model=str(tmp_path / "sent.safetensors"), search="drop table")
    tensors = next(table for table in tables_of(at) if "tensor" in table)
    assert list(tensors["tensor"]) == [NASTY]
    at = open_page(PAGE, model=str(tmp_path / "sent.safetensors"), search="no such")
    assert "No tensor's name, type or shape holds that." in shown(at)


def test_a_refused_file_shows_its_sentence_and_no_question(tmp_path, open_page):
    (tmp_path / "page.pt").write_text("<html>not found</html>")
    at = open_page(PAGE, model=str(tmp_path / "page.pt"))
    assert "This cannot be opened" in shown(at) and "a web page; download the file itself" in shown(at)
    assert "Look inside and ask every question" not in buttons_of(at) and not tables_of(at)


def test_a_path_outside_of_the_folders_is_not_looked_at(open_page):
    at = open_page(PAGE, model="/etc/passwd")
    assert "a path must lie inside of the folders that this dashboard may open" in shown(at)
    assert at.title[0].value == "Look into a model"


def test_what_is_not_there_is_said_and_leads_back_to_the_ways_in(tmp_path, open_page):
    assert "must be a file or folder on this machine" in shown(open_page(PAGE, model=str(tmp_path / "nowhere")))
    assert "the upload must have arrived" in shown(open_page(PAGE, upload="0" * 32))
    assert "must be 32 hexadecimal digits" in shown(open_page(PAGE, upload="../../etc"))


def test_a_hub_id_that_was_not_fetched_says_so_and_offers_to_fetch_it(open_page):
    at = open_page(PAGE, model="nobody/such-model")
    assert "has not been fetched to this machine" in shown(at) and "Look inside and ask every question" in buttons_of(at)


def test_looking_inside_starts_one_job_whose_answers_then_count(tmp_path, content, store, open_page):
    path = str(tmp_path / "sent.safetensors")
    at = open_page(PAGE, model=path)
    at.button(key="look-inside").click().run()
    jobs = Jobs(store).list()
    assert [(job.slug, job.model) for job in jobs] == [(None, path)]
    assert "look-inside" not in [one.key for one in at.button]  # it is at work
    store.jobs.change(jobs[0].id, status="done")
    store.known.add(path, name="sent", label="sent", source=path, task=None, dtype="float32", fingerprints={"weights": "1"}, facts={})
    store.known.add_need(path, "weight_sparsity", version_of("weight_sparsity"), None)
    for slug in ("neuron_activity", "neuron_weights", "neuron_correlation", "task_loss"):
        store.known.add_need(path, slug, version_of(slug), f"{slug} needs <b>more</b> than weights.")
    at = open_page(PAGE, model=path)
    assert "Start the 1 quick question" in buttons_of(at) and "neuron_activity needs <b>more</b> than weights." in shown(at)
    at.button(key="start-quick").click().run()
    assert {job.slug for job in Jobs(store).list()} == {None, "weight_sparsity"}


def test_a_model_that_reads_short_texts_is_asked_with_windows_that_fit(tmp_path, content, store, open_page):
    path = str(tmp_path / "sent.safetensors")
    known = {"name": "a", "label": "a", "source": path, "task": "causal-lm", "dtype": "float32", "fingerprints": {"weights": "1"}}
    for context, window in ((32, 32), (4096, 128)):
        store.known.add(path, **known, facts={"context_length": context})
        store.known.add_need(path, "task_loss", version_of("task_loss"), None)
        at = open_page(PAGE, model=path)
        assert ("but windows of 32 tokens" in shown(at)) == (context == 32)
        at.button(key="start-quick").click().run()
        job = Jobs(store).list()[0]
        assert (job.slug, job.config["window"]) == ("task_loss", window)
        store.jobs.change(job.id, status="cancelled")


def test_what_went_wrong_is_said_under_the_name_of_the_model(client, content, store, open_page):
    upload = send(client, content, "mine.safetensors").json()["upload"]
    path = str(kept.quarantine().get(upload).path)
    job = Jobs(store).inspect(path)
    store.jobs.change(job.id, status="failed", words=f"{path} must hold <b>tensors</b>, got none.")
    at = open_page(PAGE, upload=upload)
    assert "'mine.safetensors' must hold <b>tensors</b>, got none." in shown(at) and path not in shown(at)
    assert "Look inside again" in buttons_of(at)


def version_of(slug):
    from analysis import find_analysis

    return find_analysis(slug).version


@pytest.mark.parametrize("verdict", ["agrees", "differs", "none"])
def test_what_became_of_the_bridge_is_shown_in_words(tmp_path, content, store, open_page, verdict):
    path = str(tmp_path / "sent.safetensors")
    facts = {"bridge": {"verdict": verdict, "words": f"TransformerLens' bridge {verdict}, because of <i>this</i>."}, "n_layers": 2}
    store.known.add(
        path, name="sent", label="sent", source=path, task="causal-lm", dtype="float32", fingerprints={"weights": "1"}, facts=facts
    )
    at = open_page(PAGE, model=path)
    assert f"TransformerLens' bridge {verdict}, because of <i>this</i>." in shown(at) and "layers: 2" in shown(at)


def test_an_upload_has_a_page_under_its_own_name_and_can_be_deleted_with_what_is_known_of_it(client, content, store, open_page):
    upload = send(client, content, "my weights.safetensors").json()["upload"]
    path = str(kept.quarantine().get(upload).path)
    store.known.add(path, name="a", label="a", source=path, task=None, dtype="float32", fingerprints={"weights": "1"}, facts={})
    at = open_page(PAGE, upload=upload)
    assert at.title[0].value.replace("\\", "").replace("\u2060", "") == "my weights.safetensors"
    assert upload not in shown(at).replace(f"?upload={upload}", "")
    job = Jobs(store).inspect(path)
    at.button(key="delete-upload").click().run()
    assert f"got one that job {job.id} reads; cancel the job first." in shown(at)
    store.jobs.change(job.id, status="cancelled")
    at.button(key="delete-upload").click().run()
    assert left() == [] and store.known.get(path) is None and at.title[0].value == "Look into a model"


def test_the_headers_of_an_upload_are_read_once_however_often_its_page_and_the_list_of_uploads_are_drawn(
    client, content, open_page, monkeypatch
):
    """A file of a hundred and fifty thousand tensors takes seconds to list; a search or a reload must not read it again."""
    from analysis.models.files import look, quarantine
    from ui.checkpoint import place

    upload = send(client, content, "my weights.safetensors").json()["upload"]
    read = []
    monkeypatch.setattr(quarantine, "look", lambda path: read.append(path) or look(path))
    monkeypatch.setattr(place, "look_inside", lambda path: read.append(path) or look(path))
    at = open_page(PAGE, upload=upload)
    first = len(read)
    at.text_input(key="search").set_value("layer").run()
    assert first == 1 and len(read) == 1
    listed = "\n".join(buttons_of(open_page(PAGE))).replace("\\", "").replace("\u2060", "")
    assert "my weights.safetensors" in listed and "a safetensors file" in listed and len(read) == 1


def test_a_zip_of_a_folder_shows_what_is_inside_under_its_own_name(client, tiny_llama, tmp_path, open_page):
    import zipfile

    with zipfile.ZipFile(tmp_path / "z.zip", "w") as archive:
        for one in tiny_llama.iterdir():
            archive.write(one, f"llama/{one.name}")
    upload = send(client, (tmp_path / "z.zip").read_bytes(), "my llama.zip").json()["upload"]
    at = open_page(PAGE, upload=upload)
    assert at.title[0].value.replace("\\", "").replace("\u2060", "") == "my llama.zip"
    assert {one.label: one.value for one in at.metric}["Tensors"] == "20"


# -- the tree ---------------------------------------------------------------------------------------------------------


def test_the_treemap_of_a_huge_tree_is_bounded_and_its_areas_add_up(tmp_path):
    from analysis.models.files import look

    tensors = {f"m{i}.x{j}.w": np.ones(1, np.float32) for i in range(40) for j in range(20)} | {".odd..name": np.ones(5, np.float32)}
    save_file(tensors, tmp_path / "wide.safetensors")
    root = look(tmp_path / "wide.safetensors").tree()
    figure, words = treemap(root)
    trace = figure.data[0]
    assert len(trace.ids) <= MOST_AREAS and "down to level 1" in words
    assert trace.values[0] == 805 == sum(v for v, p in zip(trace.values, trace.parents, strict=True) if p == "0")
    assert len(set(trace.ids)) == len(trace.ids)
    assert len(modules_at(root, 1)) == 41 and sum(branch.n_parameters for _, branch in modules_at(root, 1)) == 805


def test_the_store_of_a_dashboard_is_not_disturbed_by_its_uploads(client, content, store):
    send(client, content)
    assert Store(store.folder).runs() == []


def test_a_folder_of_checkpoints_is_shown_as_a_series_with_its_steps(tmp_path, open_page):
    for step in (100, 20):
        (tmp_path / "run").mkdir(exist_ok=True)
        save_file({"layer.weight": np.ones((4, 6), np.float32)}, tmp_path / "run" / f"step_{step}.safetensors")
    at = open_page(PAGE, model=str(tmp_path / "run"))
    steps = next(table for table in tables_of(at) if "step" in table)
    assert list(steps["step"]) == [20, 100] and "2 steps from 20 to 100" in shown(at)
    assert "must be asked of one checkpoint" in shown(at)  # said of single-checkpoint questions before anything is opened

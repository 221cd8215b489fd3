"""The worker's counter without a model: who is let in, what waits, what is given up; and who has to make room."""

from __future__ import annotations

import json
import os
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest

from analysis.jobs import processes
from analysis.live import wire, worker
from analysis.live.desk import MOST_WAITING, Desk
from analysis.live.places import LONGEST_SOCKET, Places, Record, places_of
from analysis.live.worker import MOST_WORKERS, listen, make_room
from analysis.spec import UserError

ROOT = Path(__file__).resolve().parent.parent.parent
ABOUT = {"label": "toy", "fingerprints": {}, "idle_limit_s": 60, "memory": 1}
QUESTION = {"do": "forward", "text": "a cat", "sites": ["s"], "neurons": [1]}


@pytest.fixture
def places(tmp_path):
    return places_of(tmp_path / "store", "toy")


@pytest.fixture
def counter(places):
    listening, address = listen(places)
    desk = Desk(listening, "secret")
    yield desk, address
    desk.close("the test is over")


@pytest.fixture
def client(counter):
    return Client(counter[1])


class Client:
    def __init__(self, address):
        self.address = address
        self.connection = wire.connect(address, 5.0)
        self.inbox = wire.Inbox(self.connection)

    def send(self, token="secret", **message):
        self.connection.sendall(wire.pack({"token": token, **message}))

    def ask(self, **message):
        self.send(**message)
        return self.inbox.poll(5.0)


def until(condition, seconds=5.0):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    assert condition()


def test_while_it_starts_it_says_how_far_it_is_and_takes_no_question(counter, client):
    counter[0].show("loading weights", 1, 4)
    assert client.ask(do="ping") == {"ok": True, "state": "starting", "what": "loading weights", "done": 1, "total": 4}
    assert client.ask(**QUESTION)["kind"] == "starting"
    assert client.ask(do="describe")["kind"] == "starting"


def test_without_the_token_nothing_is_answered(counter, client):
    counter[0].open(ABOUT)
    for token in ("", "Secret", "secret ", "\ud800"):
        reply = client.ask(token=token, **QUESTION)
        assert (reply["ok"], reply["kind"]) == (False, "refused")
    assert client.ask(token=None, do="shutdown")["kind"] == "refused"
    assert not counter[0].leaving.is_set()
    assert client.ask(do="ping")["state"] == "ready"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"text": 7}, "text must be text, got int"),
        ({"text": None}, "text must be text, got NoneType"),
        ({"sites": []}, "sites must be a list of 1 to 64 entries, got 0"),
        ({"sites": "s"}, "sites must be a list of 1 to 64 entries, got str"),
        ({"sites": [1]}, "sites must be names of sites, got 1"),
        ({"neurons": [True]}, "neurons must be whole numbers from 0, got True"),
        ({"neurons": [1.5]}, "neurons must be whole numbers from 0, got 1.5"),
        ({"neurons": [2**40]}, "neurons must be whole numbers from 0"),
        ({"neurons": list(range(300))}, "neurons must be a list of 1 to 256 entries, got 300"),
        ({"active": 0}, "active must be between 1e-09 and 1, got 0"),
        ({"magnitude": "much"}, "magnitude must be between 0 and 1e+06, got 'much'"),
        ({"fingerprints": [1]}, "fingerprints must be an object of texts"),
        ({"interventions": {"a": 1}}, "interventions must be empty, got 1"),
        ({"do": "dance"}, "'do' must be ping, describe, forward, cancel or shutdown, got 'dance'"),
        ({"do": None}, "'do' must be ping"),
    ],
)
def test_a_request_that_is_none_is_a_sentence(counter, client, change, words):
    counter[0].open(ABOUT)
    reply = client.ask(**(QUESTION | change))
    assert reply["kind"] == "refused"
    assert words in reply["words"]


@pytest.mark.parametrize("body", [b"{", b"[]", b"\x80\x04pickle", b'"x"', b"[" * 100_000])
def test_what_is_no_json_object_is_a_sentence_and_the_end_of_that_connection(client, body):
    client.connection.sendall(struct.pack(">I", len(body)) + body)
    assert "a request must be" in client.inbox.poll(5.0)["words"]
    with pytest.raises(ConnectionError):
        client.inbox.poll(5.0)
    assert Client(client.address).ask(do="ping")["ok"]


def test_a_giant_message_is_refused_before_it_is_read(client):
    client.connection.sendall(struct.pack(">I", 2**32 - 1))
    assert "at most 8,388,608 bytes, got 4,294,967,295" in client.inbox.poll(5.0)["words"]


def test_a_message_that_trickles_in_is_put_together(client):
    for byte in wire.pack({"token": "secret", "do": "ping"}):
        client.connection.sendall(bytes([byte]))
        time.sleep(0.002)
    assert client.inbox.poll(5.0)["ok"]


def test_nan_is_never_sent():
    with pytest.raises(ValueError, match="not JSON compliant"):
        wire.pack({"a": float("nan")})


def test_any_text_comes_out_as_it_went_in(client):
    text = "\0\r\n🐕\u202e\ud800é"
    assert wire.unpack(wire.pack({"text": text})[4:]) == {"text": text}


def test_questions_are_answered_in_turn_and_a_few_may_wait(counter):
    desk, address = counter
    desk.open(ABOUT)
    clients = []
    for i in range(MOST_WAITING):
        clients.append(Client(address))
        clients[-1].send(**QUESTION, id=str(i))
        until(lambda wanted=i + 1: len(desk._asks) == wanted)
    assert Client(address).ask(do="ping") | {"idle_s": 0} == {"ok": True, "state": "busy", "asks": MOST_WAITING, "idle_s": 0, **ABOUT}
    assert "at most 4 questions can wait" in Client(address).ask(**QUESTION, id="late")["words"]
    assert "id must be new" in Client(address).ask(**QUESTION, id="0")["words"]
    for i, client in enumerate(clients):
        ask = desk.next(1.0)
        assert ask.id == str(i)
        desk.finish(ask, {"ok": True, "n": i})
        assert client.inbox.poll(5.0) == {"ok": True, "n": i}


def test_a_client_that_leaves_cancels_its_question(counter):
    desk, address = counter
    desk.open(ABOUT)
    client = Client(address)
    client.send(**QUESTION, id="mine")
    ask = desk.next(5.0)
    assert not ask.cancelled.is_set()
    client.connection.close()
    assert ask.cancelled.wait(5.0)
    desk.finish(ask, {"ok": True})
    assert Client(address).ask(do="ping")["state"] == "ready"


def test_cancelling_reaches_only_the_named_question(counter):
    desk, address = counter
    desk.open(ABOUT)
    clients = [Client(address), Client(address)]
    for name, client in zip("ab", clients):
        client.send(**QUESTION, id=name)
        until(lambda wanted=name: wanted in desk._asks)
    assert Client(address).ask(do="cancel", id="b") == {"ok": True, "found": True}
    assert Client(address).ask(do="cancel", id="z") == {"ok": True, "found": False}
    assert desk.next(1.0).id == "a"
    assert desk.next(1.0) is None  # b was given up while it waited
    assert clients[1].inbox.poll(5.0)["kind"] == "cancelled"


def test_looking_in_does_not_keep_it_alive_but_a_question_does(counter, client):
    desk, _ = counter
    desk.open(ABOUT)
    time.sleep(0.2)
    assert client.ask(do="ping")["ok"] and client.ask(do="describe")["ok"]
    assert desk.idle_s >= 0.2
    client.send(**QUESTION)
    ask = desk.next(5.0)
    assert desk.idle_s == 0.0
    desk.finish(ask, {"ok": True})
    assert desk.idle_s < 0.2


def test_one_at_work_does_not_leave_for_a_newcomer_but_leaves_when_told(counter, client):
    desk, address = counter
    desk.open(ABOUT)
    client.send(**QUESTION)
    ask = desk.next(5.0)
    assert Client(address).ask(do="shutdown", only_idle=True)["kind"] == "busy"
    assert not desk.leaving.is_set()
    assert Client(address).ask(do="shutdown") == {"ok": True}
    assert desk.leaving.is_set() and ask.cancelled.is_set()


def test_where_a_path_is_too_long_for_a_socket_it_is_a_port_of_this_machine(tmp_path):
    folder = tmp_path / ("x" * LONGEST_SOCKET)
    folder.mkdir()
    listening, address = listen(Places(folder, "key"))
    desk = Desk(listening, "secret")
    assert listening.family == socket.AF_INET and listening.getsockname()[0] == "127.0.0.1"
    assert Client(address).ask(do="ping")["ok"]
    assert Client(address).ask(token="", do="ping")["kind"] == "refused"
    desk.close("over")


def test_a_record_that_is_none_of_ours_is_no_worker(places):
    for content in ("", "[]", "{", '{"pid": 1}', '{"surprise": 2}'):
        places.record.write_text(content)
        assert places.read() is None


def test_a_record_of_an_earlier_process_with_the_same_number_is_not_taken_for_a_worker(places):
    me = processes.identity()
    places.write(Record("toy", "s", me.pid, me.start - 5, me.host))
    assert not places.read().lives
    places.write(Record("toy", "s", me.pid, me.start, me.host))
    assert places.read().lives


def test_the_lock_is_one_process_and_free_when_it_dies(places):
    code = (
        "import os, sys\nfrom analysis.live.places import Places\nfrom pathlib import Path\n"
        f"print(Places(Path({str(places.folder)!r}), {places.key!r}).hold() is not None, flush=True)\nsys.stdin.read()"
    )
    holder = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "True\n"
    assert places.hold() is None
    holder.kill()
    holder.communicate()
    held = places.hold()
    assert held is not None
    os.close(held)


class Crowd:
    """Workers that are there by their records, and answer as told."""

    def __init__(self, places, monkeypatch, **states):
        self.states, self.told = states, []
        monkeypatch.setattr(Places, "others", lambda _: [(Places(places.folder, n), Record(n, "s", 1, 0.0, "h")) for n in self.states])
        monkeypatch.setattr(worker, "tell_worker", self.tell)
        monkeypatch.setattr(worker, "_ROOM_S", 0.3)

    def tell(self, record, message):
        if message["do"] == "ping":
            return self.states[record.model]
        self.told.append((record.model, message))
        if self.states[record.model].get("leaves", True):
            del self.states[record.model]
        return {"ok": True}


def test_the_longest_idle_live_model_makes_room_for_another(places, monkeypatch):
    crowd = Crowd(places, monkeypatch, young={"state": "ready", "idle_s": 3}, old={"state": "ready", "idle_s": 90})
    make_room(places)
    assert crowd.told == [("old", {"do": "shutdown", "only_idle": True})]
    assert list(crowd.states) == ["young"]


def test_nobody_has_to_leave_while_there_is_room(places, monkeypatch):
    crowd = Crowd(places, monkeypatch, **{f"m{i}": {"state": "ready", "idle_s": 5} for i in range(MOST_WORKERS - 1)})
    make_room(places)
    assert crowd.told == []


def test_where_all_are_at_work_the_newcomer_is_refused(places, monkeypatch):
    crowd = Crowd(places, monkeypatch, a={"state": "busy"}, b={"state": "starting"})
    with pytest.raises(UserError, match=r"at most 2 live models can run at once, got 2 at work \(a and b\)"):
        make_room(places)
    assert crowd.told == []


def test_one_that_will_not_leave_is_asked_once_and_the_newcomer_refused(places, monkeypatch):
    stays = {"state": "ready", "idle_s": 9, "leaves": False}
    crowd = Crowd(places, monkeypatch, a=dict(stays), b={"state": "busy"})
    with pytest.raises(UserError, match="which do not leave"):
        make_room(places)
    assert len(crowd.told) == 1


def test_the_record_holds_the_token_and_only_its_owner_reads_it(places):
    places.write(Record("toy", "s", 1, 0.0, "h", token="t" * 32))
    assert json.loads(places.record.read_text())["token"] == "t" * 32
    assert places.record.stat().st_mode & 0o077 == 0
    assert "ttt" not in repr(places.read())

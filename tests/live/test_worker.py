"""Real workers on a real model: what they answer, who may ask, and every way in which they end."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest

from analysis.live import LiveError, LiveGone, LiveModel
from analysis.live.client import threads
from analysis.live.places import places_of
from tests.live.conftest import SITE, TEXT

pytestmark = pytest.mark.models
ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture(scope="module")
def direct():
    """Layer 3 of MiniLM on TEXT by plain hooks: ids, activations [tokens, neurons], what the FFN writes, its output weights."""
    import torch

    from analysis.models import open_subject

    before = torch.get_num_threads()
    torch.set_num_threads(threads())
    subject = open_subject("minilm")
    dense = subject.model.encoder.layer[3].output.dense
    seen = {}
    hook = dense.register_forward_hook(lambda _, args, output: seen.update(a=args[0][0], out=output[0]))
    batch = subject.tokenizer(TEXT, return_tensors="pt")
    with torch.no_grad():
        subject.model(**batch)
    hook.remove()
    torch.set_num_threads(before)
    return batch["input_ids"][0].tolist(), seen["a"].numpy(), seen["out"].numpy(), dense.weight.detach().numpy()


def test_activations_are_those_of_a_direct_pass_bit_for_bit(ready, direct):
    ids, values, _, _ = direct
    answer = ready.forward(TEXT, [SITE], [0, 17, 1535])
    assert answer.ids == ids
    for unit in answer.units:
        assert np.array_equal(np.float32(unit.activations), values[:, unit.neuron])


def test_active_means_more_than_a_hundredth_of_what_the_ffn_writes(ready, direct):
    _, values, written, weight = direct
    for unit in ready.forward(TEXT, [SITE], list(range(900, 940))).units:
        share = np.abs(values[:, unit.neuron]) * np.linalg.norm(weight[:, unit.neuron]) / np.linalg.norm(written, axis=1)
        np.testing.assert_allclose(unit.contributions, share, rtol=1e-5)
        assert unit.active == (share > 0.01).tolist()
        assert unit.density == np.mean(share > 0.01)


def test_a_threshold_of_everything_leaves_nothing_active(ready):
    (unit,) = ready.forward(TEXT, [SITE], [17], active=1.0).units
    assert unit.n_active == 0 and unit.density == 0.0 and unit.n_seen == len(unit.activations)


def test_tokens_are_exact_pieces_and_the_added_ones_are_special(ready):
    answer = ready.forward("Sleeping cats", [SITE], [0])
    assert answer.tokens == ["[CLS]", "sleeping", "cats", "[SEP]"]
    assert answer.special == [True, False, False, True]


def test_every_layer_is_answered_as_by_a_pass_that_runs_to_the_end(ready):
    """A pass stops behind the last site that was asked for; asking for the last layer, too, must not change the first."""
    first, last = "blocks.0.mlp.hook_post", "blocks.5.mlp.hook_post"
    alone = ready.forward(TEXT, [first], [5]).units[0].activations
    together = ready.forward(TEXT, [first, last], [5]).units
    assert [u.hook_name for u in together] == [first, last]
    assert together[0].activations == alone != together[1].activations


def test_a_second_question_is_answered_within_a_second(ready):
    ready.forward(TEXT, [SITE], [0])
    began = time.monotonic()
    ready.forward(TEXT, [SITE], [1])
    assert time.monotonic() - began < 1


@pytest.mark.parametrize(
    ("text", "site", "neuron", "words"),
    [
        ("x", "blocks.9", 0, r"site must be one of the 6 of all-MiniLM-L6-v2 \(blocks.0.mlp.hook_post to blocks.5.*\), got 'blocks.9'"),
        ("x", SITE, 1536, "neuron must be between 0 and 1535 at blocks.3.mlp.hook_post, got 1536"),
        ("x", SITE, -1, "neurons must be whole numbers from 0, got -1"),
        (" \n", SITE, 0, "text must not be empty"),
        ("\0\0", SITE, 0, "text must have at least 1 token"),
        ("a " * 25_000, SITE, 0, "text must have at most 512 tokens, got 25,002; shorten it"),
        ("a" * 200_001, SITE, 0, "text must be at most 200,000 characters, got 200,001"),
        ("a\ud83d", SITE, 0, "text must be valid Unicode, got half a surrogate pair at character 1"),
    ],
)
def test_what_cannot_be_read_is_refused_in_a_sentence_and_the_worker_goes_on(ready, text, site, neuron, words):
    pid = ready.status().pid
    with pytest.raises(LiveError, match=f"(?i){words}"):
        ready.forward(text, [site], [neuron])
    assert ready.forward("still here", [SITE], [0]).tokens[1:3] == ["still", "here"]
    assert ready.status().pid == pid


def test_interventions_are_refused_until_they_can_be_done(ready):
    with pytest.raises(LiveError, match="Interventions must be empty, got 1"):
        ready.forward("x", [SITE], [0], interventions=[{"ablate": 3}])


def test_only_this_user_can_reach_it(ready):
    places = places_of(ready.store, ready.model)
    assert stat.S_IMODE(places.folder.stat().st_mode) == 0o700
    assert stat.S_ISSOCK(places.socket.stat().st_mode)
    for path in (places.socket, places.record, places.lock, places.log):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


def test_another_process_attaches_to_it_without_loading_torch(ready):
    """As a server does that was started anew."""
    code = (
        "import sys\nfrom analysis.live import LiveModel\nimport ui.neurons.live_panel\n"
        f"live = LiveModel({ready.store!r}, 'minilm')\nprint(live.status().pid, live.forward('a cat', [{SITE!r}], [3]).tokens)\n"
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert said.stdout == f"{ready.status().pid} ['[CLS]', 'a', 'cat', '[SEP]']\n", said.stderr


def test_a_waiting_question_can_be_cancelled_and_a_client_that_leaves_is_forgotten(ready):
    long = "cat " * 505
    first, second, third = (ready.begin(long, ["blocks.5.mlp.hook_post"], [0]) for _ in range(3))
    second.cancel()
    third.close()
    with pytest.raises(LiveError, match="cancelled"):
        while second.poll(5.0) is None:
            pass
    while (answer := first.poll(5.0)) is None:
        pass
    assert len(answer.tokens) == 507
    until = time.monotonic() + 5
    while ready.status().state != "ready" and time.monotonic() < until:
        time.sleep(0.02)
    assert ready.status().state == "ready"


def test_it_gives_way_and_leads_a_session_of_its_own(ready):
    pid = ready.status().pid
    assert psutil.Process(pid).nice() == 10
    assert os.getsid(pid) == pid


def test_one_that_does_not_answer_in_time_is_busy_once_it_was_ready_and_before_that_still_starting(ready):
    places, pid = places_of(ready.store, ready.model), ready.status().pid
    record = places.read()
    os.kill(pid, signal.SIGSTOP)
    try:
        assert ready.status().state == "busy"
        places.write(replace(record, ready=False))
        assert ready.status().state == "starting"
    finally:
        places.write(record)
        os.kill(pid, signal.SIGCONT)
    assert ready.forward("a cat", [SITE], [0]).tokens[1] == "a"


def test_a_worker_killed_at_work_is_a_sentence_and_the_next_start_makes_another(ready):
    pid = ready.status().pid
    os.kill(pid, signal.SIGSTOP)  # so that the question is certainly under way
    pending = ready.begin(TEXT, [SITE], [0])
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(LiveGone, match=rf"went away while it was at work.* process {pid} ended without a word"):
        while pending.poll(5.0) is None:
            pass
    assert ready.status().state == "failed"
    with pytest.raises(LiveGone):
        ready.forward(TEXT, [SITE], [0])
    ready.start()  # its socket and its record still lie there
    assert ready.wait().state == "ready"
    assert ready.status().pid != pid
    assert ready.forward("a cat", [SITE], [0]).tokens[1] == "a"


def test_many_that_start_it_at_once_share_one_worker(live):
    live.stop()
    assert live.status().state in ("ended", "absent")
    clients = [LiveModel(live.store, "minilm") for _ in range(5)]
    together = [threading.Thread(target=one.start) for one in clients]
    for one in together:
        one.start()
    for one in together:
        one.join()
    assert {one.wait().state for one in clients} == {"ready"}
    assert len({one.status().pid for one in clients}) == 1
    mine = [p for p in psutil.Process().children() if "live" in p.cmdline() and p.status() != psutil.STATUS_ZOMBIE]
    assert len(mine) == 1


def test_a_run_of_other_weights_is_not_answered_by_this_model(ready):
    other = LiveModel(ready.store, "minilm", fingerprints={"weights": "0" * 32, "data": "not compared"})
    assert other.status().state == "other"
    assert other.status().words == "The live model that is running has other weights than this run."
    with pytest.raises(LiveError, match="(?i)the weights of all-MiniLM-L6-v2 must be those of the run .fingerprint 000000000000., got"):
        other.forward(TEXT, [SITE], [0])
    other.start()  # replaces the one that runs, and then finds that the files are not those of the run
    status = other.wait()
    assert status.state == "failed"
    assert "the files have changed since; run the analysis again" in status.words


def test_it_leaves_after_its_idle_time_though_pages_look_in(short_folder):
    brief = LiveModel(short_folder / "brief", "minilm", idle_s=1.0)
    brief.start()
    pid = brief.wait().pid
    answered = time.monotonic()
    assert brief.forward("a cat", [SITE], [0]).tokens[2] == "cat"
    until = time.monotonic() + 20
    while brief.status().answers and time.monotonic() < until:
        time.sleep(0.05)
    assert 1.0 <= time.monotonic() - answered < 10
    until = time.monotonic() + 10
    socket = places_of(brief.store, "minilm").socket
    while (brief.status().state != "ended" or (psutil.pid_exists(pid) and socket.exists())) and time.monotonic() < until:
        time.sleep(0.05)
    assert brief.status().words == "The live model left after 1 second without a question, to free its memory."
    assert not socket.exists()


def test_too_little_memory_is_a_sentence_before_anything_is_loaded(short_folder, monkeypatch):
    monkeypatch.setenv("SPARSESCOPE_MEMORY", "0.2")
    poor = LiveModel(short_folder / "poor", "minilm")
    began = time.monotonic()
    poor.start()
    status = poor.wait()
    assert status.state == "failed"
    assert "The memory for the live model of minilm must be about 713.6 MB, got 200.0 MB free" in status.words
    assert time.monotonic() - began < 20

"""The dashboard is safe by its command line alone."""

import sys

import pytest

from analysis.spec import UserError
from ui.serve import EMBED_VARIABLE, STORE_VARIABLE, serve_command


def test_it_listens_on_this_machine_only_and_answers_to_no_other_name(tmp_path):
    argv, env = serve_command(tmp_path, 9000)
    assert argv[:4] == [sys.executable, "-m", "streamlit", "run"]
    assert "--server.address=127.0.0.1" in argv
    assert "--server.port=9000" in argv
    assert [a for a in argv if a.startswith("--server.allowedHosts")] == [
        "--server.allowedHosts=localhost",
        "--server.allowedHosts=127.0.0.1",
    ]
    assert env[STORE_VARIABLE] == str(tmp_path)


@pytest.mark.parametrize(
    "option",
    [
        "--logger.hideWelcomeMessage=true",
        "--browser.gatherUsageStats=false",
        "--client.toolbarMode=viewer",
        "--client.showErrorDetails=none",
        "--server.fileWatcherType=none",
    ],
)
def test_nothing_is_sent_and_nothing_inner_is_shown(option, tmp_path):
    assert option in serve_command(tmp_path)[0]


def test_a_named_address_is_also_a_name_it_answers_to(tmp_path):
    argv, _ = serve_command(tmp_path, address="10.0.0.7", hosts=["lab.example"])
    assert {"--server.allowedHosts=10.0.0.7", "--server.allowedHosts=lab.example"} <= set(argv)


def test_listening_everywhere_still_refuses_unknown_names(tmp_path):
    argv, _ = serve_command(tmp_path, address="0.0.0.0")
    assert "--server.allowedHosts=0.0.0.0" not in argv
    assert "--server.allowedHosts=localhost" in argv


def test_a_port_outside_the_range_is_refused_in_a_sentence(tmp_path):
    with pytest.raises(UserError, match="port must be between 1 and 65535, got 70000; choose another with --port"):
        serve_command(tmp_path, 70000)


def test_the_store_is_found_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    _, env = serve_command("results")
    assert env[STORE_VARIABLE] == str(tmp_path / "results")


def test_a_newcomers_first_start_asks_nothing_on_the_terminal(tmp_path):
    """Without this Streamlit asks for an e-mail address where there is no ~/.streamlit, and ends when nobody answers."""
    argv, _ = serve_command(tmp_path, open_browser=True)
    assert "--server.showEmailPrompt=false" in argv


def test_other_sites_may_show_it_only_where_they_are_named(tmp_path, monkeypatch):
    from ui.server import SecurityHeaders, content_security_policy

    monkeypatch.delenv(EMBED_VARIABLE, raising=False)
    assert serve_command(tmp_path)[1][EMBED_VARIABLE] == ""
    assert "frame-ancestors 'self';" in content_security_policy()
    assert SecurityHeaders(None).headers["X-Frame-Options"] == "SAMEORIGIN"
    _, env = serve_command(tmp_path, embed_in=["https://wiki.example.org/", "http://localhost:8888"])
    monkeypatch.setenv(EMBED_VARIABLE, env[EMBED_VARIABLE])
    assert "frame-ancestors 'self' https://wiki.example.org http://localhost:8888;" in content_security_policy()
    assert "X-Frame-Options" not in SecurityHeaders(None).headers


@pytest.mark.parametrize(
    "origin", ["*", "https://*", "https://a.example; script-src *", "javascript:alert(1)", "wiki.example", "https://a.b/c"]
)
def test_what_is_no_origin_may_not_show_it(tmp_path, origin):
    with pytest.raises(UserError, match="--embed-in must be origins"):
        serve_command(tmp_path, embed_in=[origin])

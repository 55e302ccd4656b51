"""The HTTP output: which token its requests carry."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from deckwire.lab.namespaces import PATIENCE_SECONDS
from deckwire.output.sinks.http import HttpSink, Url
from deckwire.output.sinks.spooled import SpoolFolder
from deckwire.output.sinks.token_file import TokenFile
from tests.output.spool.test_http import Server
from tests.support.rsyslog_server import wait_until


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as made:
        thread = threading.Thread(target=made.serve_forever, args=(0.01,))
        thread.start()
        yield made
        made.shutdown()
        thread.join()


@pytest.fixture
def token(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text("first\n")
    return path


@pytest.fixture
def sink(server: Server, token: Path, tmp_path: Path) -> Iterator[HttpSink]:
    url = Url("127.0.0.1", server.server_address[1], "/events")
    made = HttpSink(url, SpoolFolder(str(tmp_path / "spool")), token=TokenFile(str(token)))
    made.start()
    yield made
    made.close(PATIENCE_SECONDS)


def shown(server: Server, sink: HttpSink) -> str:
    """Send a line; the token with which it is acknowledged."""
    acknowledged = sink.more_sums()["acknowledged"]
    assert sink.offer(b"{}")
    wait_until(lambda: sink.more_sums()["acknowledged"] > acknowledged, "it is acknowledged")
    return server.requests[-1][1]["Authorization"].removeprefix("Bearer ")


def renew(path: Path, token: str) -> None:
    """Replace the file, as the tools that renew tokens do."""
    new = path.with_suffix(".new")
    new.write_text(token)
    new.replace(path)


def test_a_reopened_output_carries_the_renewed_token(
    server: Server, sink: HttpSink, token: Path
) -> None:
    assert shown(server, sink) == "first"
    renew(token, "second")
    assert shown(server, sink) == "first"
    sink.reopen()
    # The request that was on its way may have the old one.
    wait_until(lambda: shown(server, sink) == "second", "the new token is used")
    assert server.connections == 2


def test_a_wrong_token_is_one_line_and_the_one_before_goes_on(
    server: Server, sink: HttpSink, token: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert shown(server, sink) == "first"
    token.unlink()
    for count in (1, 2):
        sink.reopen()
        wait_until(lambda n=count: sink.counters().errors.get("reopen_error") == n, "it is refused")
    assert capfd.readouterr().err == (
        f"deckwire: output {sink.name}: {token}: No such file or directory;"
        " correct the file, then send SIGHUP; not opened again\n"
    )
    assert shown(server, sink) == "first"
    assert (server.connections, sink.failure()) == (1, "")
    renew(token, "two\nlines")
    sink.reopen()
    wait_until(lambda: sink.counters().errors["reopen_error"] == 3, "it is refused")
    assert f"token_file: {token} holds no token" in sink.counters().last_error
    renew(token, "second")
    sink.reopen()
    wait_until(lambda: shown(server, sink) == "second", "the new token is used")


def test_a_token_that_the_receiver_refuses_is_read_anew_for_each_try(
    server: Server, sink: HttpSink, token: Path
) -> None:
    server.answer = (401, {})
    assert sink.offer(b"{}")
    wait_until(lambda: "answers 401" in sink.failure(), "it is refused")
    renew(token, "second")
    wait_until(
        lambda: server.requests[-1][1]["Authorization"] == "Bearer second", "it tries the new one"
    )
    server.answer = (200, {})
    wait_until(lambda: not sink.more_sums()["spooled"], "the line has arrived")

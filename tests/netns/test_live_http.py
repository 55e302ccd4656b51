"""curl, wget and Python speak HTTP with a decky, and a decky fetches a URL."""

from __future__ import annotations

import shutil
import socket

import pytest

from deckwire.lab import Lab
from deckwire.lab.agent import AgentProcess
from deckwire.lab.servers import serve
from tests.support.http_wire import answer
from tests.support.watching import assert_nothing_lost

pytestmark = pytest.mark.root

FORM = "user=root&password=x"
PYTHON = (
    "import http.client, sys; c = http.client.HTTPConnection(sys.argv[1], 8080);"
    " c.request('GET', '/python'); c.getresponse().read();"
    " c.request('GET', '/again'); c.getresponse().read()"
)


def respond(connection: socket.socket) -> None:
    """Answer whatever the client asks, until it ends."""
    while connection.recv(8_192):
        connection.sendall(answer(b"404 Not Found", server=b"lab"))


@pytest.mark.skipif(
    not (shutil.which("curl") and shutil.which("wget")), reason="not installed: curl, wget"
)
def test_programs_are_read_in_every_direction(lab: Lab) -> None:
    web, mail, _ = lab.deckies
    for node in (web, mail, lab.client):
        serve(lab, node, 8_080, respond)
    agent = AgentProcess(lab)
    lab.run(lab.client, ["curl", "-s", "-d", FORM, f"http://{web.v4}:8080/login?next=/"])
    lab.run(lab.client, ["curl", "-s", "-g", f"http://[{mail.v6}]:8080/six"])
    lab.run(lab.client, ["wget", "-q", "-O", "-", "-t", "1", f"http://{web.v4}:8080/wget"])
    lab.run(lab.client, ["python3", "-c", PYTHON, web.v4])
    lab.run(web, ["curl", "-s", f"http://{lab.client.v4}:8080/x.arm7"])
    lab.run(web, ["curl", "-s", f"http://{mail.v4}:8080/lateral"])
    for direction, address, path, program in (
        ("inbound", web.v4, "/login?next=/", "curl/"),
        ("inbound", mail.v6, "/six", "curl/"),
        ("inbound", web.v4, "/wget", "Wget/"),
        ("inbound", web.v4, "/python", ""),
        ("inbound", web.v4, "/again", ""),
        ("outbound", lab.client.v4, "/x.arm7", "curl/"),
        ("lateral", mail.v4, "/lateral", "curl/"),
    ):
        found = agent.expect("http_request", direction=direction, dst_ip=address, path=path)
        fields = found["fields"]
        assert fields.get("user_agent", "").startswith(program)
        assert (fields["status"], fields["server"]) == (404, "lab")
        assert fields["ja4h"][:4] == ("po11" if path.startswith("/login") else "ge11")
    assert agent.stop() == 0
    assert len(agent.find("http_request")) == 7
    login = agent.find("http_request", path="/login?next=/")[0]["fields"]
    assert login["body_length"] == len(FORM)
    assert_nothing_lost(agent)

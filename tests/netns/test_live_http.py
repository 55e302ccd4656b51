"""curl, wget and other programs speak HTTP with a decky, and a decky fetches a URL."""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path

import pytest

from deckwire.lab import Lab
from deckwire.lab.agent import AgentProcess
from deckwire.lab.servers import serve
from tests.support.http_wire import answer
from tests.support.programs import needs
from tests.support.watching import assert_nothing_lost

pytestmark = pytest.mark.root

GO_SOURCE = Path(__file__).parents[1] / "support" / "httpget.go"
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


@needs("curl", "wget")
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


@needs("go")
def test_the_client_of_go_is_read(lab: Lab) -> None:
    web, program = lab.deckies[0], lab.directory / "httpget"
    built = subprocess.run(
        ["go", "build", "-o", program, GO_SOURCE],
        env={**os.environ, "GO111MODULE": "off"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    serve(lab, web, 8_080, respond)
    agent = AgentProcess(lab)
    done = lab.run(lab.client, [program, f"http://{web.v4}:8080/go"])
    assert done.returncode == 0, done.stderr
    for method, start in (("GET", "ge11nn03"), ("POST", "po11nn04")):
        fields = agent.expect("http_request", method=method)["fields"]
        assert (fields["path"], fields["user_agent"]) == ("/go", "Go-http-client/1.1")
        assert fields["ja4h"].startswith(start)
        assert fields["status"] == 404
    assert agent.stop() == 0
    assert len(agent.find("http_request")) == 2
    assert_nothing_lost(agent)


@needs("gobuster")
def test_each_path_that_gobuster_tries_is_read(lab: Lab) -> None:
    web, words = lab.deckies[0], lab.directory / "words"
    words.write_text("admin\nbackup\n.git\n")
    serve(lab, web, 8_080, respond)
    agent = AgentProcess(lab)
    tries = ["dir", "-q", "-t", "1", "-u", f"http://{web.v4}:8080", "-w", str(words)]
    done = lab.run(lab.client, ["gobuster", *tries])
    assert done.returncode == 0, done.stderr
    for path in ("/admin", "/backup", "/.git"):
        fields = agent.expect("http_request", path=path)["fields"]
        assert fields["user_agent"].startswith("gobuster/")
        assert fields["direction"] == "inbound"
    assert agent.stop() == 0
    paths = [event["fields"]["path"] for event in agent.find("http_request")]
    assert len(paths) == len(set(paths))
    assert_nothing_lost(agent)

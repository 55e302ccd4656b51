"""OpenSSH's client and other programs speak SSH with a decky, and a decky with a peer."""

from __future__ import annotations

import shutil
import socket

import pytest

from deckwire.lab import Lab, Node
from deckwire.lab.agent import AgentProcess
from deckwire.lab.servers import serve
from tests.support.ssh_wire import CLIENT, SERVER, SERVER_BANNER, client_hassh, server_hassh
from tests.support.watching import assert_nothing_lost

pytestmark = pytest.mark.root


def speak(connection: socket.socket) -> None:
    """A server's clear text, whatever the client says. Then it waits for the client's end."""
    connection.sendall(SERVER)
    while connection.recv(4_096):
        pass


def visit(node: Node, address: str, port: int) -> None:
    """A client's clear text, in two writes."""
    with node.connect(address, port) as connection:
        line = CLIENT.index(b"\n") + 1
        connection.sendall(CLIENT[:line])
        connection.recv(4_096)
        connection.sendall(CLIENT[line:])
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(4_096):
            pass


def test_ssh_on_any_port_in_every_direction(lab: Lab) -> None:
    web, mail, _ = lab.deckies
    for node, port in ((web, 22), (mail, 2_222), (lab.client, 443)):
        serve(lab, node, port, speak)
    agent = AgentProcess(lab)
    visit(lab.client, web.v4, 22)
    visit(lab.client, web.v4, 22)
    visit(lab.client, mail.v6, 2_222)
    visit(web, lab.client.v4, 443)
    visit(web, mail.v4, 2_222)
    for direction, address in (
        *(("inbound", web.v4), ("inbound", mail.v6)),
        *(("outbound", lab.client.v4), ("lateral", mail.v4)),
    ):
        where = {"direction": direction, "dst_ip": address}
        mine = agent.expect("ssh_client_banner", **where)["fields"]
        theirs = agent.expect("ssh_server_banner", **where)["fields"]
        assert mine["hassh"] == client_hassh()
        assert theirs["hassh_server"] == server_hassh()
        assert theirs["ssh_version"] == SERVER_BANNER.decode()
    assert agent.stop() == 0
    # The second visit repeats the first one.
    assert len(agent.find("ssh_client_banner")) == len(agent.find("ssh_server_banner")) == 4
    assert_nothing_lost(agent)


@pytest.mark.skipif(shutil.which("ssh") is None, reason="not installed: ssh")
def test_openssh_is_read_with_its_hash(lab: Lab) -> None:
    web = lab.deckies[0]
    serve(lab, web, 22, speak)
    agent = AgentProcess(lab)
    shown = lab.run(lab.client, ["ssh", "-V"]).stderr.split(",")[0]
    options = ["-o", "BatchMode=yes", "-o", "ConnectTimeout=120", "-o", "StrictHostKeyChecking=no"]
    lab.run(lab.client, ["ssh", *options, f"nobody@{web.v4}"])
    fields = agent.expect("ssh_client_banner")["fields"]
    # The banner has no blanks of the version.
    assert fields["ssh_version"] == f"SSH-2.0-{shown}".removesuffix("\n")
    assert len(fields["hassh"]) == 32
    assert fields["hassh_algorithms"].count(";") == 3
    assert fields["ext_info"] is True
    assert agent.stop() == 0
    assert_nothing_lost(agent)

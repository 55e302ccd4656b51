"""OpenSSH's client and other programs speak SSH with a decky, and a decky with a peer."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from deckwire.lab import Lab, Node
from deckwire.lab.agent import AgentProcess, JsonEvent
from deckwire.lab.namespaces import PATIENCE_SECONDS, wait_until
from deckwire.lab.servers import Talk, is_listening, serve
from tests.support.programs import each_of, is_installed, needs
from tests.support.ssh_wire import (
    CLIENT,
    CLIENT_BANNER,
    SERVER,
    SERVER_BANNER,
    client_hassh,
    hassh_of,
    server_hassh,
)
from tests.support.watching import assert_nothing_lost

pytestmark = pytest.mark.root


def speak(connection: socket.socket) -> None:
    """A server's clear text, whatever the client says. Then it waits for the client's end."""
    connection.sendall(SERVER)
    while connection.recv(4_096):
        pass


def visit(node: Node, address: str, port: int, first: bytes = CLIENT) -> None:
    """Clear text of the end that opens the connection, in two writes."""
    with node.connect(address, port) as connection:
        line = first.index(b"\n") + 1
        connection.sendall(first[:line])
        connection.recv(4_096)
        connection.sendall(first[line:])
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


def test_a_decky_dials_out_as_an_ssh_server(lab: Lab) -> None:
    web = lab.deckies[0]

    def take_over(connection: socket.socket) -> None:
        connection.sendall(CLIENT)
        while connection.recv(4_096):
            pass

    serve(lab, lab.client, 443, take_over)
    agent = AgentProcess(lab)
    visit(web, lab.client.v4, 443, SERVER)
    expect_reversed(agent, lab, SERVER_BANNER.decode(), CLIENT_BANNER.decode())
    assert agent.stop() == 0
    assert_nothing_lost(agent)


def expect_reversed(agent: AgentProcess, lab: Lab, server: str, client: str) -> None:
    """Wait for the events of a connection of a decky whose SSH client is the peer."""
    where = {"direction": "outbound", "role_reversed": True}
    for name, banner in (("ssh_server_banner", server), ("ssh_client_banner", client)):
        fields = agent.expect(name, **where)["fields"]
        assert fields["ssh_version"].startswith(banner)
        # The addresses are those of the connection, which the decky opened.
        assert fields["src_ip"] == lab.deckies[0].v4
        assert fields["dst_ip"] == lab.client.v4
        assert len(fields["hassh" if name == "ssh_client_banner" else "hassh_server"]) == 32


# --- programs against a server that gives up after the clear text -------------------------------

PARAMIKO = (
    "import paramiko, sys; t = paramiko.Transport((sys.argv[1], int(sys.argv[2])));"
    " t.start_client(timeout=60)"
)
ASYNCSSH = """
import asyncio, asyncssh, sys
async def main():
    await asyncssh.connect(sys.argv[1], int(sys.argv[2]), known_hosts=None, username='nobody',
                           client_keys=None, config=None)
asyncio.run(main())
"""
OPTIONS = "-o BatchMode=yes -o ConnectTimeout=60 -o StrictHostKeyChecking=no"


@dataclass(frozen=True)
class Program:
    """A client of SSH; the words of `command` have {host} and {port}."""

    command: list[str]
    banner: str
    """What its banner begins with."""


PROGRAMS = {
    "ssh": Program([*f"ssh {OPTIONS} -p".split(), "{port}", "nobody@{host}"], "SSH-2.0-OpenSSH_"),
    "dbclient": Program(
        ["dbclient", "-y", "-y", "-p", "{port}", "nobody@{host}", "true"], "SSH-2.0-dropbear"
    ),
    "paramiko": Program([sys.executable, "-c", PARAMIKO, "{host}", "{port}"], "SSH-2.0-paramiko_"),
    "asyncssh": Program([sys.executable, "-c", ASYNCSSH, "{host}", "{port}"], "SSH-2.0-AsyncSSH_"),
    "curl": Program(
        ["curl", "-s", "-k", "-m", "60", "sftp://nobody@{host}:{port}/x"], "SSH-2.0-libssh2_"
    ),
    # The script runs only if the port is known for SSH, or with a plus.
    "nmap": Program(
        ["nmap", "-n", "-Pn", "-p", "{port}", "--script", "+ssh2-enum-algos", "{host}"],
        "SSH-2.0-Nmap_SSH2_Enum_Algos",
    ),
    "hydra": Program(
        ["hydra", "-I", "-l", "root", "-p", "hunter2", "-t", "1", "-s", "{port}", "ssh://{host}"],
        "SSH-2.0-libssh_",
    ),
}
PORT = 2_001
"""Of the first program; the others have those that follow."""


@dataclass
class Visits:
    """What the programs sent, as the servers read it, and the agent's events, both by program."""

    sent: dict[str, list[bytes]] = field(default_factory=dict)
    """One item for each connection."""
    events: dict[str, list[JsonEvent]] = field(default_factory=dict)


@pytest.fixture(scope="module")
def visits() -> Iterator[Visits]:
    """Every installed program visits a decky twice, at the same time as the others."""
    made = Visits()
    with Lab() as lab:
        web = lab.deckies[0]
        agent = AgentProcess(lab)
        running = []
        names = [name for name in PROGRAMS if is_installed(name)]
        for port, name in enumerate(names, PORT):
            sent = made.sent[name] = []
            serve(lab, web, port, recorder(sent))
            words = [word.format(host=web.v4, port=port) for word in PROGRAMS[name].command]
            running += [start(lab, lab.client, words) for _ in range(2)]
        for process in running:
            process.wait(PATIENCE_SECONDS)
        assert agent.stop() == 0
        for port, name in enumerate(names, PORT):
            made.events[name] = agent.find("ssh_client_banner", dst_port=port)
        read = [made.sent[name] for name in names if made.events[name]]
        wait_until(lambda: all(any(map(hassh_of, sent)) for sent in read), "the servers read it")
        assert_nothing_lost(agent)
        yield made


def recorder(sent: list[bytes]) -> Talk:
    """Speak as `speak` does, and keep what each client says."""

    def talk(connection: socket.socket) -> None:
        connection.sendall(SERVER)
        read = b""
        try:
            while data := connection.recv(4_096):
                read += data
        finally:
            sent.append(read)

    return talk


def start(lab: Lab, node: Node, words: list[str]) -> subprocess.Popen[bytes]:
    """Start a program that leaves its files in the lab's directory and says nothing."""
    return lab.popen(
        node,
        words,
        env={**os.environ, "HOME": str(lab.directory)},
        cwd=lab.directory,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


@pytest.mark.parametrize("name", each_of({name: [name] for name in PROGRAMS}))
def test_a_program_is_read_once_with_its_hash(name: str, visits: Visits) -> None:
    # Both visits, and each try of a program that tries several logins, have one key.
    (event,) = visits.events[name]
    fields = event["fields"]
    assert fields["ssh_version"].startswith(PROGRAMS[name].banner)
    assert fields["direction"] == "inbound"
    assert "role_reversed" not in fields
    hashes = {hassh_of(sent) for sent in visits.sent[name]} - {""}
    assert hashes == {fields["hassh"]}
    assert fields["hassh_algorithms"].count(";") == 3


@needs("ssh")
def test_openssh_is_read_as_it_says_itself(visits: Visits) -> None:
    done = subprocess.run(["ssh", "-V"], capture_output=True, text=True, check=True)
    fields = visits.events["ssh"][0]["fields"]
    # The banner has no blanks of the version.
    assert fields["ssh_version"] == f"SSH-2.0-{done.stderr.split(',')[0]}".removesuffix("\n")
    assert fields["ext_info"] is True


# --- whole sessions ----------------------------------------------------------------------------


@needs("dbclient", "dropbear", "dropbearkey")
def test_a_session_of_dropbear(lab: Lab) -> None:
    web, key = lab.deckies[0], lab.directory / "key"
    assert lab.run(None, ["dropbearkey", "-t", "ed25519", "-f", key]).returncode == 0
    server = start(lab, web, ["dropbear", "-F", "-E", "-r", str(key), "-p", "22"])
    wait_until(lambda: is_listening(server.pid, 22), "dropbear listens")
    agent = AgentProcess(lab)
    start(lab, lab.client, ["dbclient", "-y", "-y", f"nobody@{web.v4}", "true"]).wait(
        PATIENCE_SECONDS
    )
    for name, hassh in (("ssh_client_banner", "hassh"), ("ssh_server_banner", "hassh_server")):
        fields = agent.expect(name, direction="inbound")["fields"]
        assert fields["ssh_version"].startswith("SSH-2.0-dropbear")
        assert len(fields[hassh]) == 32
    assert agent.stop() == 0
    assert_nothing_lost(agent)


REVERSE_SERVER = """
import asyncio, asyncssh, sys
async def main():
    key = asyncssh.generate_private_key('ssh-ed25519')
    await asyncssh.connect_reverse(sys.argv[1], 443, server_host_keys=[key], config=None)
asyncio.run(main())
"""
REVERSE_CLIENT = """
import asyncio, asyncssh
async def main():
    await asyncssh.listen_reverse(port=443, known_hosts=None, username='nobody', client_keys=None,
                                  config=None)
    await asyncio.sleep(600)
asyncio.run(main())
"""


@needs("asyncssh")
def test_a_decky_dials_out_as_a_server_of_asyncssh(lab: Lab) -> None:
    web = lab.deckies[0]
    client = start(lab, lab.client, [sys.executable, "-c", REVERSE_CLIENT])
    wait_until(lambda: is_listening(client.pid, 443), "asyncssh listens")
    agent = AgentProcess(lab)
    start(lab, web, [sys.executable, "-c", REVERSE_SERVER, lab.client.v4])
    expect_reversed(agent, lab, "SSH-2.0-AsyncSSH_", "SSH-2.0-AsyncSSH_")
    assert agent.stop() == 0
    assert_nothing_lost(agent)

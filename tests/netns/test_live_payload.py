"""Clients of other protocols log in to a decky, and a decky to a peer."""

from __future__ import annotations

import os
import socket
import subprocess
from base64 import b64decode
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from deckwire.events.redaction import PREFIX
from deckwire.lab import Lab, Node
from deckwire.lab.agent import AgentProcess, JsonEvent
from deckwire.lab.namespaces import PATIENCE_SECONDS
from deckwire.lab.servers import serve
from tests.support import payload_wire as wire
from tests.support.programs import each_of, is_installed
from tests.support.watching import assert_nothing_lost

pytestmark = pytest.mark.root

Talk = Callable[[socket.socket], None]


def answering(*answers: bytes, first: bytes = b"") -> Talk:
    """Send `first`, and one of the answers to each of the client's writes; then close."""

    def talk(connection: socket.socket) -> None:
        connection.sendall(first)
        for answer in answers:
            if not connection.recv(4_096):
                return
            connection.sendall(answer)

    return talk


def login_prompts(connection: socket.socket) -> None:
    """Telnet's questions, each answered by a line."""
    connection.sendall(b"\xff\xfd\x18")
    with connection.makefile("rb") as client:
        for prompt in (b"login: ", b"Password: "):
            connection.sendall(prompt)
            client.readline()
        # To close with bytes that were not read would drop a prompt that waits for its turn.
        connection.shutdown(socket.SHUT_WR)
        client.read()


@dataclass(frozen=True)
class Program:
    """A client and its server; `command` has {host} and {port}."""

    command: str
    talk: Talk
    fields: dict[str, object]
    typed: bytes = b""
    secrets: bool = True
    """Its first bytes have a login."""


PROGRAMS = {
    "redis-cli": Program(
        "redis-cli -h {host} -p {port} --no-auth-warning -a hunter2 PING",
        answering(b"+OK\r\n", b"+PONG\r\n"),
        {"protocol": "redis", "login_password": "hunter2"},
    ),
    "psql": Program(
        "psql host={host}\tport={port}\tuser=bobby\tdbname=shop\tpassword=hunter2\tsslmode=disable"
        "\tgssencmode=disable\tconnect_timeout=20",
        answering(wire.postgres_challenge(3), b""),
        {
            "protocol": "postgres",
            "login_user": "bobby",
            "login_password": "hunter2",
            "login_method": "password",
            "database": "shop",
            "application": "psql",
        },
    ),
    "mysql": Program(
        "mysql -h {host} -P {port} --protocol=tcp --skip-ssl -u bobby -phunter2 shop",
        answering(
            wire.mysql_packet(2, b"\xff\x15\x04#28000Access denied"), first=wire.MYSQL_SALTED
        ),
        {
            "protocol": "mysql",
            "login_user": "bobby",
            "database": "shop",
            "mysql_version": "8.0.36",
            "login_method": "mysql_native_password",
        },
    ),
    "mosquitto_pub": Program(
        "mosquitto_pub -h {host} -p {port} -u bobby -P hunter2 -i probe-7 -t a -m b",
        answering(b"\x20\2\0\5"),
        {
            "protocol": "mqtt",
            "login_user": "bobby",
            "login_password": "hunter2",
            "mqtt_client_id": "probe-7",
            "mqtt_version": "3.1.1",
        },
    ),
    "telnet": Program(
        "telnet {host} {port}",
        login_prompts,
        {"protocol": "telnet", "login_user": "bobby", "login_password": "hunter2"},
        b"bobby\nhunter2\n",
    ),
    "ldapsearch": Program(
        "ldapsearch -x -H ldap://{host}:{port} -D cn=bobby -w hunter2 -b dc=lab",
        answering(wire.LDAP_REFUSED),
        {
            "protocol": "ldap",
            "login_user": "cn=bobby",
            "login_password": "hunter2",
            "login_method": "simple",
        },
    ),
    "smbclient": Program(
        "smbclient -t 60 -p {port} -U bobby%hunter2 -L //{host}",
        answering(b""),
        {"protocol": "smb", "smb_dialects": ["2.0.2", "2.1", "3.0", "3.0.2", "3.1.1"]},
        secrets=False,
    ),
    # xfreerdp ends without a display.
    "xfreerdp": Program(
        "xvfb-run -a xfreerdp /v:{host}:{port} /u:bobby /p:hunter2 /cert:ignore",
        answering(b""),
        {"protocol": "rdp", "rdp_cookie": "bobby", "rdp_protocols": ["tls", "credssp"]},
    ),
    "hydra": Program(
        "hydra -I -t 1 -l bobby -p hunter2 -s {port} ftp://{host}",
        answering(b"331 Password\r\n", b"530 No\r\n", b"221 Bye\r\n", first=b"220 lab\r\n"),
        {"protocol": "ftp/smtp", "login_user": "bobby", "login_password": "hunter2"},
    ),
}
PORT = 7_001


def start(lab: Lab, node: Node, program: Program, host: str, port: int) -> subprocess.Popen[bytes]:
    """Start the program with what is typed; it ends when the server closes the connection."""
    words = [word.format(host=host, port=port) for word in program.command.split(" ")]
    words = [word.replace("\t", " ") for word in words]
    process = lab.popen(
        node,
        words,
        env={**os.environ, "HOME": str(lab.directory)},
        cwd=lab.directory,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdin is not None
    process.stdin.write(program.typed)
    process.stdin.flush()
    return process


NEEDS = {name: (name, one.command.split(" ")[0]) for name, one in PROGRAMS.items()}
"""Each program, and the one that starts it."""
Talks = dict[tuple[str, str], list[JsonEvent]]
"""The events of tcp_payload by program and direction."""


@pytest.fixture(scope="module")
def talks() -> Iterator[Talks]:
    """Every installed program talks to a decky, and on a decky to a peer, all at the same time."""
    made: Talks = {}
    with Lab() as lab:
        web = lab.deckies[0]
        agent = AgentProcess(lab)
        processes = []
        names = [name for name in PROGRAMS if all(map(is_installed, NEEDS[name]))]
        for port, name in enumerate(names, PORT):
            program = PROGRAMS[name]
            for client, server in ((lab.client, web), (web, lab.client)):
                serve(lab, server, port, program.talk)
                processes.append(start(lab, client, program, server.v4, port))
        for process in processes:
            process.wait(PATIENCE_SECONDS)
        assert agent.stop() == 0
        for port, name in enumerate(names, PORT):
            for direction in ("inbound", "outbound"):
                found = agent.find("tcp_payload", direction=direction, dst_port=port)
                made[name, direction] = found
        assert_nothing_lost(agent)
        yield made


@pytest.mark.parametrize("name", each_of(NEEDS))
def test_a_client_is_recognised_with_its_login(name: str, talks: Talks) -> None:
    (event,) = talks[name, "inbound"]
    fields, program = event["fields"], PROGRAMS[name]
    assert {one: fields.get(one) for one in program.fields} == program.fields
    assert "redacted" not in fields


@pytest.mark.parametrize("name", each_of(NEEDS))
def test_the_login_of_a_decky_is_replaced(name: str, talks: Talks) -> None:
    """What a decky sends is the operator's own."""
    (event,) = talks[name, "outbound"]
    fields, program = event["fields"], PROGRAMS[name]
    assert fields["protocol"] == program.fields["protocol"]
    assert fields.get("redacted", False) is program.secrets
    secrets = [one for one in ("login_user", "login_password") if one in program.fields]
    assert all(fields[one].startswith(PREFIX) for one in secrets)
    sent = b64decode(fields["payload"])
    assert b"hunter2" not in sent
    assert b"bobby" not in sent

"""Clients of other protocols log in to a decky, and a decky to a peer."""

from __future__ import annotations

import shutil
import socket
import subprocess
from base64 import b64decode
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from deckwire.events.redaction import PREFIX
from deckwire.lab import Lab
from deckwire.lab.agent import AgentProcess
from deckwire.lab.namespaces import PATIENCE_SECONDS
from deckwire.lab.servers import serve
from tests.support import payload_wire as wire
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


@dataclass(frozen=True)
class Program:
    """A client and its server; `command` has {host} and {port}."""

    command: str
    talk: Talk
    fields: dict[str, object]
    typed: bytes = b""


PROGRAMS = {
    "redis-cli": Program(
        "redis-cli -h {host} -p {port} --no-auth-warning -a hunter2 PING",
        answering(b"+OK\r\n", b"+PONG\r\n"),
        {"protocol": "redis", "login_password": "hunter2"},
    ),
    "psql": Program(
        "psql host={host}\tport={port}\tuser=bobby\tdbname=shop\tpassword=hunter2\tsslmode=disable"
        "\tgssencmode=disable\tconnect_timeout=120",
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
}
PORT = 7_001
INSTALLED = {name: one for name, one in PROGRAMS.items() if shutil.which(name)}


def start(lab: Lab, node: str, program: Program, host: str, port: int) -> subprocess.Popen[bytes]:
    """Start the program with what is typed; it ends when the server closes the connection."""
    words = [word.format(host=host, port=port) for word in program.command.split(" ")]
    words = [word.replace("\t", " ") for word in words]
    nodes = {one.name: one for one in (lab.client, *lab.deckies)}
    process = lab.popen(
        nodes[node],
        words,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdin is not None
    process.stdin.write(program.typed)
    process.stdin.flush()
    return process


@pytest.mark.skipif(not INSTALLED, reason=f"none is installed: {', '.join(PROGRAMS)}")
def test_clients_are_recognised_with_their_logins(lab: Lab) -> None:
    web = lab.deckies[0]
    agent = AgentProcess(lab)
    processes = []
    for port, program in enumerate(INSTALLED.values(), PORT):
        serve(lab, web, port, program.talk)
        serve(lab, lab.client, port, program.talk)
        processes.append(start(lab, lab.client.name, program, web.v4, port))
        processes.append(start(lab, web.name, program, lab.client.v4, port))
    for port, (name, program) in enumerate(INSTALLED.items(), PORT):
        found = agent.expect("tcp_payload", direction="inbound", dst_port=port)
        fields = found["fields"]
        assert {one: fields.get(one) for one in program.fields} == program.fields, name
        assert "redacted" not in fields
        # What a decky sends is the operator's own.
        found = agent.expect("tcp_payload", direction="outbound", dst_port=port)
        fields = found["fields"]
        assert fields["protocol"] == program.fields["protocol"]
        assert fields["redacted"] is True
        secrets = [one for one in ("login_user", "login_password") if one in program.fields]
        assert all(fields[one].startswith(PREFIX) for one in secrets)
        sent = b64decode(fields["payload"])
        assert b"hunter2" not in sent
        assert b"bobby" not in sent
    for process in processes:
        process.wait(PATIENCE_SECONDS)
    assert agent.stop() == 0
    assert len(agent.find("tcp_payload")) == 2 * len(INSTALLED)
    assert_nothing_lost(agent)

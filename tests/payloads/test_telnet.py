from __future__ import annotations

import pytest

from deckwire.payloads.telnet import read_telnet
from tests.support.payload_wire import TELNET_CLIENT, TELNET_SERVER


def test_options_terminal_and_login() -> None:
    found = read_telnet(TELNET_CLIENT, TELNET_SERVER)
    assert dict(found.fields) == {
        "login_user": "root",
        "login_password": "xc3511",
        "telnet_options": ("DO 3", "WILL 24"),
        "telnet_terminal": "xterm",
    }
    assert [TELNET_CLIENT[at:end] for _, at, end in found.secrets] == [b"root", b"xc3511"]


@pytest.mark.parametrize(
    ("client", "server", "fields"),
    [
        (b"root\r\nvizxv\r\n", b"login: Password: ", ("root", "vizxv", None)),
        (b"root\n\nsh\n", b"login: Password: ", ("root", "", None)),
        (b"a\nb\nc\nd\n", b"login: Password: Login incorrect\r\nlogin: Password:", ("a", "b", 2)),
        (b"cisco\r\n", b"User Access Verification\r\n\r\nPassword: ", (None, "cisco", None)),
        (b"\r\nroot\r\nx\r\n", b"Username: Username: Password: ", ("root", "x", None)),
        (b"root\r\nx\r\nls\r\n", b"login: Password: Last login: Mon\r\n", ("root", "x", None)),
        # Without prompts nothing shows which line is which.
        (b"root\r\nx\r\n", b"", (None, None, None)),
        (b"root\r\nx", b"login: Password: ", ("root", None, None)),
    ],
)
def test_prompts_show_what_a_line_is(
    client: bytes, server: bytes, fields: tuple[object, ...]
) -> None:
    found = dict(read_telnet(client, server).fields)
    names = ("login_user", "login_password", "login_attempts")
    assert tuple(found.get(name) for name in names) == fields


def test_the_first_lines_are_secret_without_a_prompt_for_a_password() -> None:
    client = b"\xff\xfd\3root\r\nx\xff\xff\r\nls\r\n"
    for server in (b"", b"login: "):
        found = read_telnet(client, server)
        assert [client[at:end] for _, at, end in found.secrets] == [b"root", b"x\xff\xff"]


def test_options_inside_a_line_are_part_of_none() -> None:
    client = b"ro\xff\xfb\x1fot\r\nx\r\n"
    found = read_telnet(client, b"login: Password: ")
    assert dict(found.fields)["login_user"] == "root"
    assert client[found.secrets[0].start : found.secrets[0].end] == b"ro\xff\xfb\x1fot"


@pytest.mark.parametrize("cut", [b"\xff", b"\xff\xfb", b"\xff\xfa\x18\0xterm", b"\xff\xfa"])
def test_what_was_cut_is_no_text(cut: bytes) -> None:
    found = read_telnet(b"root\r\n" + cut, b"login: Password: ")
    assert dict(found.fields) == {"login_user": "root"}

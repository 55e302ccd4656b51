from __future__ import annotations

import pytest

from deckwire.payloads.finding import Finding
from deckwire.payloads.logins import read_commands, read_imap, read_irc, read_xmpp
from tests.support.payload_wire import base64


def secrets(found: Finding, client: bytes) -> list[bytes]:
    return [client[start:end] for _, start, end in found.secrets]


PLAIN = base64(b"\0admin\0hunter2")


@pytest.mark.parametrize(
    ("client", "fields", "hidden_bytes"),
    [
        (
            b"USER admin\r\nPASS hunter2\r\n",
            {"login_user": "admin", "login_password": "hunter2"},
            [b"admin", b"hunter2"],
        ),
        (
            b"user a b\npass  c d \n",
            {"login_user": "a b", "login_password": "c d "},
            [b"a b", b"c d "],
        ),
        (
            b"USER a\r\nPASS 1\r\nUSER b\r\nPASS 2\r\n",
            {"login_user": "a", "login_password": "1", "login_attempts": 2},
            [b"a", b"1", b"b", b"2"],
        ),
        (
            b"EHLO me\r\nAUTH PLAIN " + PLAIN + b"\r\nQUIT\r\n",
            {"login_user": "admin", "login_password": "hunter2", "login_method": "plain"},
            [PLAIN, PLAIN],
        ),
        (
            b"AUTH PLAIN\r\n" + PLAIN + b"\r\nMAIL FROM:<a>\r\n",
            {"login_user": "admin", "login_password": "hunter2", "login_method": "plain"},
            [PLAIN, PLAIN],
        ),
        (
            b"AUTH LOGIN\r\n" + base64(b"admin") + b"\r\n" + base64(b"hunter2") + b"\r\n",
            {"login_user": "admin", "login_password": "hunter2", "login_method": "login"},
            [base64(b"admin"), base64(b"hunter2")],
        ),
        (
            b"AUTH login " + base64(b"admin") + b"\r\nQUIT\r\n",
            {"login_user": "admin", "login_method": "login"},
            [base64(b"admin")],
        ),
        (
            b"AUTH CRAM-MD5\r\n" + base64(b"admin 0123") + b"\r\n",
            {"login_user": "admin", "login_method": "cram-md5"},
            [base64(b"admin 0123")],
        ),
        (b"AUTH XOAUTH2 dG9rZW4=\r\n", {"login_method": "xoauth2"}, [b"dG9rZW4="]),
        (b"AUTH NTLM\r\nTlRM\r\nU1NQ\r\n", {"login_method": "ntlm"}, [b"TlRM", b"U1NQ"]),
        (b"APOP me c4c9\r\n", {"login_user": "me"}, [b"me", b"c4c9"]),
        # What was cut is a secret without a value.
        (b"USER admin\r\nPASS hunt", {"login_user": "admin"}, [b"admin", b"hunt"]),
        (b"AUTH PLAIN " + PLAIN[:9], {"login_method": "plain"}, [PLAIN[:9]]),
        # FTP asks for TLS so.
        (b"AUTH TLS\r\nUSER me\r\n", {"login_user": "me"}, [b"me"]),
        # The client gave up.
        (b"AUTH LOGIN\r\n*\r\nNOOP\r\n", {"login_method": "login"}, []),
        (b"AUTH LOGIN\r\nnot base64!\r\n", {"login_method": "login"}, [b"not base64!"]),
    ],
)
def test_logins_in_lines(
    client: bytes, fields: dict[str, object], hidden_bytes: list[bytes]
) -> None:
    found = read_commands(client, b"")
    assert dict(found.fields) == fields
    assert secrets(found, client) == hidden_bytes


@pytest.mark.parametrize(
    ("client", "user", "password"),
    [
        (b"a LOGIN me secret\r\n", "me", "secret"),
        (b'a1 login "m e" "s\\"x"\r\n', "m e", 's"x'),
        (b"a LOGIN {2}\r\nme {6+}\r\nsecret\r\n", "me", "secret"),
        (b"a LOGIN me sec", "me", None),
        (b'a LOGIN me "sec', "me", None),
        (b"a LOGIN {5}\r\nme", None, None),
        (b"a AUTHENTICATE PLAIN\r\n" + PLAIN + b"\r\n", "admin", "hunter2"),
        (b"a CAPABILITY\r\nb NOOP\r\n", None, None),
    ],
)
def test_imap(client: bytes, user: str | None, password: str | None) -> None:
    found = read_imap(client, b"")
    fields = dict(found.fields)
    assert (fields.get("login_user"), fields.get("login_password")) == (user, password)
    assert bool(found.secrets) == (b"LOGIN" in client.upper() or b"PLAIN" in client)


def test_irc() -> None:
    found = read_irc(b"PASS :open\r\nNICK bot7\r\nUSER a 0 * :a\r\n", b"")
    assert dict(found.fields) == {"login_user": "bot7", "login_password": "open"}
    assert len(found.secrets) == 2


def test_xmpp() -> None:
    client = b"<stream:stream to='x'><auth xmlns='y' mechanism='PLAIN'>" + PLAIN + b"</auth>"
    found = read_xmpp(client, b"")
    fields = {"login_user": "admin", "login_password": "hunter2", "login_method": "plain"}
    assert dict(found.fields) == fields
    assert secrets(found, client) == [PLAIN, PLAIN]
    assert read_xmpp(b"<stream:stream>", b"") == Finding()

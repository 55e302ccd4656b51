from __future__ import annotations

import pytest

from deckwire.payloads.windows import read_rdp, read_smb
from tests.support.payload_wire import rdp, smb1, smb2


@pytest.mark.parametrize(
    ("client", "fields"),
    [
        (
            rdp(b"Cookie: mstshash=admin\r\n", 11),
            {"rdp_cookie": "admin", "rdp_protocols": ("tls", "credssp", "credssp_ex")},
        ),
        (rdp(b"Cookie: msts=3640205228.15629.0000\r\n", 0), {"rdp_protocols": ("rdp",)}),
        (rdp(b"Cookie: mstshash=\r\n"), {}),
        (rdp(protocols=1 << 4), {"rdp_protocols": ("rdsaad",)}),
        (rdp(), {}),
    ],
)
def test_rdp(client: bytes, fields: dict[str, object]) -> None:
    found = dict(read_rdp(client, b"").fields)
    assert {name: value for name, value in found.items() if name != "rdp_token"} == fields
    assert found.get("rdp_token") == (
        "Cookie: msts=3640205228.15629.0000" if b"msts=" in client else None
    )


def test_the_cookie_is_a_secret() -> None:
    client = rdp(b"Cookie: mstshash=admin\r\n", 3)
    assert [client[at:end] for _, at, end in read_rdp(client, b"").secrets] == [b"admin"]


@pytest.mark.parametrize(
    ("client", "dialects"),
    [
        (
            smb1(b"PC NETWORK PROGRAM 1.0", b"NT LM 0.12"),
            ("PC NETWORK PROGRAM 1.0", "NT LM 0.12"),
        ),
        (smb2(0x0202, 0x0210, 0x0300, 0x0302, 0x0311), ("2.0.2", "2.1", "3.0", "3.0.2", "3.1.1")),
        (smb2(0x0999), ("0x0999",)),
        (b"\x81\0\0\x44" + bytes(68) + smb1(b"NT LM 0.12"), ("NT LM 0.12",)),
        (smb1(b"A", b"B")[:-2], ("A",)),
        (smb2(0x0202, 0x0210)[:-1], ("2.0.2",)),
        (smb1(*[b"D"] * 40), ("D",) * 16),
    ],
)
def test_smb(client: bytes, dialects: tuple[str, ...]) -> None:
    assert read_smb(client, b"").fields == (("smb_dialects", dialects),)


def test_another_command_has_no_dialects() -> None:
    assert read_smb(b"\0\0\0\x23\xffSMBs" + bytes(27), b"").fields == ()

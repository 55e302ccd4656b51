from __future__ import annotations

from deckwire.payloads.adb import read_adb
from tests.support.payload_wire import adb


def test_banner_and_services() -> None:
    client = adb(b"CNXN", b"host::features=x\0") + adb(b"OPEN", b"shell:id\0")
    assert dict(read_adb(client + adb(b"OPEN", b"sync:\0"), b"").fields) == {
        "adb_banner": "host::features=x",
        "adb_services": ("shell:id", "sync:"),
    }


def test_a_cut_service_is_shown_as_far_as_it_goes() -> None:
    client = adb(b"OPEN", b"shell:cd /data/local/tmp; wget x\0")[:40]
    assert read_adb(client, b"").fields == (("adb_services", ("shell:cd /data/l",)),)

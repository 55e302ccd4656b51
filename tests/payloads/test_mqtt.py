from __future__ import annotations

import pytest

from deckwire.payloads.mqtt import read_mqtt
from tests.support.payload_wire import mqtt


@pytest.mark.parametrize(("version", "name"), [(3, "3.1"), (4, "3.1.1"), (5, "5"), (6, "6")])
@pytest.mark.parametrize("will", [False, True])
def test_connect(version: int, name: str, *, will: bool) -> None:
    client = mqtt(b"id-7", b"me", b"secret", version=version, will=will)
    found = read_mqtt(client, b"")
    assert dict(found.fields) == {
        "login_user": "me",
        "login_password": "secret",
        "mqtt_version": name,
        "mqtt_client_id": "id-7",
    }
    assert [client[at:end] for _, at, end in found.secrets] == [b"me", b"secret"]


def test_without_a_login() -> None:
    assert dict(read_mqtt(mqtt(b""), b"").fields) == {"mqtt_version": "3.1.1"}


def test_a_cut_password_is_a_secret_without_a_value() -> None:
    client = mqtt(b"id", b"me", b"secret")[:-3]
    found = read_mqtt(client, b"")
    assert "login_password" not in dict(found.fields)
    assert [client[at:end] for _, at, end in found.secrets] == [b"me", b"sec"]

from __future__ import annotations

from deckwire.payloads.sip import read_sip
from tests.support.payload_wire import SIP, base64


def test_a_registration() -> None:
    found = read_sip(SIP, b"")
    assert dict(found.fields) == {
        "login_user": "100",
        "request_line": "REGISTER sip:192.0.2.7 SIP/2.0",
        "user_agent": "friendly-scanner",
    }
    value = b'Digest username="100", realm="r", response="0123456789abcdef"'
    assert {SIP[at:end] for _, at, end in found.secrets} == {value}


def test_basic_credentials_of_rtsp() -> None:
    client = b"DESCRIBE rtsp://192.0.2.7/ RTSP/1.0\r\nAuthorization: Basic "
    client += base64(b"admin:hun:ter2") + b"\r\n\r\n"
    fields = dict(read_sip(client, b"").fields)
    assert (fields["login_user"], fields["login_password"]) == ("admin", "hun:ter2")


def test_a_cut_header_is_a_secret_without_a_value() -> None:
    client = b"DESCRIBE rtsp://x RTSP/1.0\r\nAuthorization: Basic " + base64(b"admin:hunter2")[:8]
    found = read_sip(client, b"")
    assert dict(found.fields) == {"request_line": "DESCRIBE rtsp://x RTSP/1.0"}
    assert [client[at:end] for _, at, end in found.secrets] == [b"Basic YWRtaW46"]

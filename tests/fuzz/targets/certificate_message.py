"""tls.messages.parse_certificate: the first certificates of the message, in order."""

from __future__ import annotations

import ssl

from deckwire.limits import CERTIFICATES
from deckwire.tls.errors import Malformed
from deckwire.tls.messages import parse_certificate
from tests.fuzz.lines import check_message
from tests.fuzz.material import certificates, handshake_bodies
from tests.support.flights import vector


def seeds() -> list[bytes]:
    real = handshake_bodies(ssl.TLSVersion.TLSv1_2, 11)
    chain = vector(3, b"".join(vector(3, der) for der in certificates()[:4]))
    many = vector(3, vector(3, b"x") * (CERTIFICATES + 3))
    return [bytes([200]) + body for body in (*real, chain, many, bytes(3))]


def check(data: bytes) -> None:
    cut_at, body = (data[0] if data else 0), data[1:]
    try:
        message = parse_certificate(body)
    except Malformed as error:
        check_message(error.reason)
        message = None
    else:
        assert len(message.certificates) <= CERTIFICATES
        assert all(message.certificates)
        assert len(message.certificates) == min(message.chain_length, CERTIFICATES)
        if message.chain_length <= CERTIFICATES:
            assert vector(3, b"".join(vector(3, der) for der in message.certificates)) == body
    try:
        cut = parse_certificate(body[: len(body) * cut_at // 256], cut=True)
    except Malformed as error:
        check_message(error.reason)
        assert message is None
        return
    if message is not None:
        assert cut.certificates == message.certificates[: len(cut.certificates)]
        assert cut.chain_length <= message.chain_length

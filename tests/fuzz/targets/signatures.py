"""fingerprints.p0f_db.parse: usable signatures, or an error of one line."""

from __future__ import annotations

from importlib import resources

from deckwire.fingerprints import p0f, p0f_db
from deckwire.fingerprints.p0f_match import SignatureIndex
from deckwire.tcp.syn_packet import SynPacket
from tests.fuzz.lines import check_message
from tests.fuzz.material import SYN_OPTIONS

_SYN_PACKET = SynPacket(
    0, 4, 63, 0, 5, True, False, 0, 0, 1, 0, 2, 64_240, 0, options=SYN_OPTIONS[0], payload_len=0
)  # fmt: skip
_OBSERVATION = p0f.observe(_SYN_PACKET)


def seeds() -> list[bytes]:
    own = resources.files("deckwire").joinpath("data/signatures.fp").read_bytes().split(b"\n")
    chunks = [b"\n".join(own[at : at + 30]) for at in range(0, len(own), 30)]
    head = b"classes = win,unix\n[tcp:request]\nlabel = s:unix:Linux:3.x\n"
    return [
        *chunks[:12],
        head + b"sig = *:64:0:*:mss*20,10:mss,sok,ts,nop,ws:df,id+:0\n",
        head + b"sig = 6:255-:0:1440:%8192,*:mss,?77,eol+3:flow,ecn:*\n",
        head + b"label = g:!:Tool:\nsys = @unix,BSD\nsig = 4:61+3:4:*:*,0::id-:+\n",
        b"[mtu]\nlabel = Ethernet\nsig = 1500\n[http:request]\nua_os = x\nsig = anything\n",
    ]


def check(data: bytes) -> None:
    try:
        found = p0f_db.parse(data, "p")
    except p0f_db.SignatureError as error:
        check_message(str(error)[:1_000])
        return
    lines = data.count(b"\n") + 1
    assert len(found.signatures) + len(found.links) <= lines
    for signature in found.signatures:
        assert 1 <= signature.line <= lines
        assert 1 <= signature.ttl <= 255
        assert signature.mss is None or 0 <= signature.mss <= 65_535
    assert all(1 <= size <= 65_535 for size in found.links)
    match = SignatureIndex(found.signatures).match(_OBSERVATION)
    assert match is None or match in found.signatures

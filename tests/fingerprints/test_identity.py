"""The sender of a SYN or SYN-ACK packet: system, link and tool."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from deckwire.fingerprints import p0f_db
from deckwire.fingerprints.identity import Identifier, Identity
from deckwire.fingerprints.os_guess import os_guess
from deckwire.fingerprints.p0f_db import Label
from deckwire.fingerprints.scanners import by_relations, by_traits
from deckwire.tcp.syn_packet import ACK, SYN, SynPacket
from tests.support.fingerprint_frames import MACOS, MAPPED, MSS, WINDOWS, sent_packets, syn, syn6
from tests.support.shared import CORPUS, labelled_packets, needs_corpus

DECKY = MAPPED + bytes([192, 0, 2, 1])
OWN_FILE = p0f_db.load_own()
OWN = Identifier(OWN_FILE)


def identify(syn_packet: SynPacket) -> Identity:
    return OWN.identify(syn_packet, DECKY, 443)


def test_a_linux_host_is_identified() -> None:
    assert identify(syn(ttl=60)) == Identity(
        p0f_sig="4:60+4:0:1460:mss*44,7:mss,sok,ts,nop,ws:df,id+:0",
        quirks=("df", "id+"),
        os="Linux 5.x-6.x",
        os_class="unix",
        os_guess="linux",
        link="Ethernet or modem",
        tool=None,
        tool_evidence=None,
    )


def test_todays_systems_are_identified() -> None:
    windows = identify(syn(ttl=115, options=WINDOWS))
    assert (windows.os, windows.os_class, windows.os_guess) == ("Windows 10/11", "win", "windows")
    apple = identify(syn(options=MACOS, window=65535, ip_id=0))
    assert apple.os_guess == "macos_ios"
    assert identify(syn6()).os == "Linux 5.x-6.x"
    freebsd = MSS + b"\x01\x03\x03\x06\x04\x02\x08\x0a\x00\x00\x00\x01\x00\x00\x00\x00"
    assert identify(syn(options=freebsd, window=65535, ip_id=0)).os == "FreeBSD 11-14"
    openbsd = MSS + b"\x01\x01\x04\x02\x01\x03\x03\x06\x01\x01\x08\x0a\x00\x00\x00\x01" + bytes(4)
    assert identify(syn(options=openbsd, window=16384)).os == "OpenBSD 5.x-7.x"


def test_a_server_is_identified() -> None:
    # 65160 is 45 times the MSS without the space for timestamps.
    synack = syn(flags=SYN | ACK, ack=1, ip_id=0, window=65160)
    assert OWN.identify_synack(synack, syn()).os == "Linux 5.x-6.x"


def test_a_tool_has_no_system() -> None:
    nmap = identify(syn(ttl=44, options=MSS, window=1024, df=False))
    assert (nmap.os, nmap.os_class, nmap.os_guess, nmap.tool) == (None, None, "nmap", "nmap")
    # Except for the TTL, ZMap with the options of Windows matches a signature of Windows.
    zmap = identify(syn(ttl=60, options=WINDOWS, window=65535, df=False))
    assert (zmap.os, zmap.os_guess, zmap.tool) == (None, "unknown", "zmap")


def test_a_signature_file_may_name_a_tool() -> None:
    head = b"classes = unix\n[tcp:request]\nlabel = s:!:Probe:fast\nsys = @unix\n"
    probe = Identifier(p0f_db.parse(head + b"sig = *:64:0:*:777,0:mss::0", "f")).identify(
        syn(options=MSS, window=777, df=False), DECKY, 443
    )
    assert (probe.os, probe.tool, probe.tool_evidence) == (None, "probe", "signature Probe fast")
    assert probe.link is None


def test_an_unknown_sender_has_no_fields() -> None:
    nobody = identify(syn(options=b"", window=4711))
    assert (nobody.os, nobody.os_class, nobody.os_guess) == (None, None, "unknown")
    assert (nobody.link, nobody.tool) == (None, None)


def family(name: str) -> str:
    """Return os_guess for the name of a label."""
    return os_guess(Label(False, "unix", name, ""), None)


def family_of(system: str) -> str:
    """Return os_guess for the text of a label, which is its name and flavor."""
    labels = {signature.label.name for signature in OWN_FILE.signatures}
    return family(max((name for name in labels if system.startswith(name)), key=len))


@needs_corpus
def test_labelled_packets_are_identified_correctly() -> None:
    """With the included file every system is the right one, and no tool is a system."""
    expected = labelled_packets()
    named = 0
    syns = {}
    for sent in sent_packets(CORPUS / "syn_os.pcap"):
        port = sent.sport if sent.is_syn else sent.dport
        entry = expected[port]
        if sent.is_syn:
            syns[port] = sent.syn_packet
        if sent.is_syn != (entry["direction"] == "syn"):
            continue
        if not sent.is_syn:
            assert entry["class"] != "tool", entry["id"]
            system = OWN.identify_synack(sent.syn_packet, syns[port]).os
            if system is not None:
                assert family_of(system) == family(entry["os"]), entry["id"]
                named += 1
            continue
        identity = OWN.identify(sent.syn_packet, sent.destination, sent.dport)
        if entry["class"] == "tool":
            assert identity.os is None, entry["id"]
            assert identity.tool == entry["os"].lower(), entry["id"]
            continue
        assert identity.tool is None, entry["id"]
        if identity.os is not None:
            assert identity.os_guess == family(entry["os"]), entry["id"]
            named += 1
    assert named >= 45


def test_fields_that_do_not_count_do_not_change_the_server() -> None:
    options = bytes.fromhex("020405b40402080a000000010000000201030307")
    sent = syn(options=options, window=65_160, flags=SYN | ACK, ack=1)
    later = replace(sent, seq=99, ip_id=7, options=options.replace(b"\0\0\0\1", b"\0\0\x12\4"))
    identifier = Identifier(p0f_db.load_own())
    server = identifier.identify_synack(sent, syn())
    assert server.os is not None
    assert server.os.startswith("Linux")
    assert server.p0f_sig.startswith("4:64+0:0:1460:mss*")
    assert identifier.identify_synack(later, syn()) == server
    assert identifier.identify_synack(replace(later, ttl=9), syn()) != server


@needs_corpus
def test_a_kept_result_equals_a_new_one() -> None:
    """Every packet of the corpus goes through one shared identifier and through a new one."""
    for path in sorted((CORPUS / "pcap").glob("*.pcap")):
        for sent in sent_packets(path):
            fresh = Identifier(OWN_FILE)
            if sent.is_syn:
                where = sent.syn_packet, sent.destination, sent.dport
                assert OWN.identify(*where) == fresh.identify(*where), path.name
            else:
                found = fresh.identify_synack(sent.syn_packet, None)
                assert OWN.identify_synack(sent.syn_packet, None) == found, path.name


_IDS = st.sampled_from([0, 1, 2, 54321, 0x1234, (0xC0000201 ^ 443 ^ 7) & 0xFFFF])
_WINDOWS = st.sampled_from([1, 512, 1024, 4128, 8192, 64240, 65160, 65535])
_TIMED = b"\x08\x0a\x00\x00\x00\x05\x00\x00\x00\x09"


@given(
    st.builds(
        syn,
        ttl=st.sampled_from([37, 64, 128, 255]),
        window=_WINDOWS,
        ip_id=_IDS,
        df=st.booleans(),
        seq=st.sampled_from([0, 7, 0xC0000201]),
        ack=st.sampled_from([0, 5]),
        flags=st.sampled_from([SYN, SYN | ACK]),
        options=st.sampled_from([b"", MSS, WINDOWS, MACOS, _TIMED, MSS + _TIMED]),
        payload_len=st.sampled_from([0, 3]),
    )
)
def test_any_kept_result_equals_a_new_one(syn_packet: SynPacket) -> None:
    """OWN has kept many results by now; a new identifier returns the same."""
    if syn_packet.flags & ACK:
        fresh = Identifier(OWN_FILE).identify_synack(syn_packet, None)
        assert OWN.identify_synack(syn_packet, None) == fresh
        return
    assert identify(syn_packet) == Identifier(OWN_FILE).identify(syn_packet, DECKY, 443)
    assert identify(syn_packet).tool == _tool_by(syn_packet)


def _tool_by(syn_packet: SynPacket) -> str | None:
    tool = by_relations(syn_packet, DECKY, 443) or by_traits(syn_packet)
    return None if tool is None else tool.name


def test_equal_packets_share_one_identity() -> None:
    first = identify(syn(seq=1, ip_id=5, options=MSS + _TIMED))
    later = _TIMED.replace(b"\x05", b"\x77")
    assert identify(syn(seq=2, ip_id=6, options=MSS + later)) is first
    assert identify(syn(seq=0, ip_id=6, options=MSS + later)) is not first


def test_many_different_packets_evict_one_result_at_a_time() -> None:
    identifier = Identifier(OWN_FILE, entries=2)

    def result(window: int) -> Identity:
        return identifier.identify(syn(window=window), DECKY, 443)

    kept = result(64240)
    for window in range(1, 20):
        result(window)
        assert result(64240) is kept

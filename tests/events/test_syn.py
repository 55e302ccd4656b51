"""tcp_syn_fingerprint against docs/events.md: fields, their order and their texts."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deckwire.connections.uptimes import Uptime
from deckwire.events.choices import Choices
from deckwire.events.event import INFORMATIONAL, Event
from deckwire.events.server_stack import describe as describe_answer
from deckwire.events.stack import describe
from deckwire.events.syn import headline, syn_event
from deckwire.fingerprints import p0f_db
from deckwire.fingerprints.identity import Identifier
from deckwire.tcp.syn_packet import ACK, ECE, SYN, Link, Sequences, SynPacket
from tests.support.declared import check_order
from tests.support.event_samples import (
    ADDRESSES,
    CHOICES,
    CLIENT6,
    DECKY,
    DECKY6,
    PLAIN,
    TAIL,
    context,
    names,
    params,
    value,
)
from tests.support.fingerprint_frames import LINUX, MACOS, WINDOWS, syn, syn6

KEPT = [
    *ADDRESSES,
    *("ttl", "initial_ttl", "hop_distance", "window", "mss", "wscale", "options_sig"),
    *("has_sack", "has_timestamps", "os_guess"),
]

Make = Callable[..., Event]


@pytest.fixture(scope="module")
def make_event() -> Make:
    identifier = Identifier(p0f_db.load_own())

    def make(syn_packet: SynPacket, choices: Choices = CHOICES) -> Event:
        where = context(CLIENT6, DECKY6) if syn_packet.ip_version == 6 else context()
        identity = identifier.identify(syn_packet, where.ends.server, where.ends.server_port)
        stack = describe(identity, syn_packet, choices)
        return syn_event(headline(where, syn_packet, 5, stack, choices), where, syn_packet, stack)

    return make


def test_fields_in_order(make_event: Make) -> None:
    event = make_event(syn(ttl=52))
    assert names(event) == [
        *KEPT,
        *("ja4t", "p0f_sig", "os", "os_class", "link"),
        *("ip_version", "ip_id", "df", "dscp", "ecn", "tos", "total_len", "quirks"),
        *TAIL,
    ]
    assert (event.name, event.severity, event.host) == (
        "tcp_syn_fingerprint",
        INFORMATIONAL,
        "web-1",
    )
    assert (event.time_ns, event.source) == (5, "192.0.2.9")
    assert event.fingerprint == f"{DECKY}|linux|M,S,T,N,W||{value(event, 'ja4t')}"
    old = make_event(syn(ttl=52), Choices(decnet=True))
    assert old.fingerprint == "linux|M,S,T,N,W"


def test_a_change_of_class_is_an_event_if_wanted(make_event: Make) -> None:
    packet = syn(ttl=52)
    packet.sequences = Sequences("random", 8, "incremental", 8)
    event = make_event(packet)
    assert (value(event, "ipid_class"), value(event, "isn_samples")) == ("random", 8)
    assert event.fingerprint == make_event(syn(ttl=52)).fingerprint
    wanted = make_event(packet, Choices(sequences=True))
    assert wanted.fingerprint == f"{event.fingerprint}|random|incremental"


def test_texts(make_event: Make) -> None:
    printed = params(make_event(syn(ttl=52)))
    expected = {
        "ttl": "52",
        "initial_ttl": "64",
        "hop_distance": "12",
        "window": "64240",
        "mss": "1460",
        "wscale": "7",
        "options_sig": "M,S,T,N,W",
        "has_sack": "true",
        "has_timestamps": "true",
        "os_guess": "linux",
        "ip_version": "4",
        "ip_id": "4660",
        "df": "true",
        "dscp": "0",
        "ecn": "0",
        "ja4t": "64240_2-4-8-1-3_1460_7",
    }
    assert {name: printed[name] for name in expected} == expected


@pytest.mark.parametrize(
    ("options", "mss", "wscale", "sack", "timestamps", "signature"),
    [
        (b"", "0", "", "false", "false", ""),
        (b"\x03\x03\x00\x01", "0", "0", "false", "false", "W,N"),
        (b"\x02\x04\x00\x00", "0", "", "false", "false", "M"),
        (b"\x02\x04\x05\xb4\x02\x04\x02\x00", "512", "", "false", "false", "M,M"),
        (b"\x03\x03\x01\x03\x03\x09\x01\x01", "0", "9", "false", "false", "W,W,N,N"),
        (WINDOWS, "1460", "8", "true", "false", "M,N,W,N,N,S"),
        (MACOS, "1460", "6", "true", "true", "M,N,W,N,N,T,S,E"),
        (b"\x1c\x04\x00\x00\x0e\x03\x00\xfe\x02", "0", "", "false", "false", "U,A,?"),
    ],
)
def test_options(
    make_event: Make,
    options: bytes,
    mss: str,
    wscale: str,
    sack: str,
    timestamps: str,
    signature: str,
) -> None:
    printed = params(make_event(syn(options=options)))
    found = [printed[n] for n in ("mss", "wscale", "has_sack", "has_timestamps", "options_sig")]
    assert found == [mss, wscale, sack, timestamps, signature]


@pytest.mark.parametrize(
    ("ttl", "initial", "hops"),
    [(1, 32, 31), (32, 32, 0), (33, 64, 31), (64, 64, 0), (65, 128, 63), (129, 255, 64)],
)
def test_ttl(make_event: Make, ttl: int, initial: int, hops: int) -> None:
    event = make_event(syn(ttl=ttl))
    assert (value(event, "initial_ttl"), value(event, "hop_distance")) == (initial, hops)


def test_ipv6_has_no_identification(make_event: Make) -> None:
    event = make_event(syn6(tos=0xB8))
    assert names(event)[len(KEPT) :] == [
        *("ja4t", "p0f_sig", "os", "os_class", "link", "ip_version", "dscp", "ecn", "tos"),
        *("total_len", "quirks", *TAIL),
    ]
    assert (value(event, "src_ip"), value(event, "dst_ip")) == (CLIENT6, DECKY6)
    assert (value(event, "ip_version"), value(event, "dscp"), value(event, "ecn")) == (6, 46, 0)


def test_ecn_is_of_the_ip_header(make_event: Make) -> None:
    assert value(make_event(syn(tos=0x03)), "ecn") == 3
    assert value(make_event(syn(flags=SYN | ECE)), "ecn") == 0


def test_an_unrecognised_system_is_left_out(make_event: Make) -> None:
    event = make_event(syn(options=b"\xfe\x04\x00\x00", window=1, ttl=200))
    assert not {"os", "os_class", "link", "tool"} & set(names(event))
    assert value(event, "os_guess") == "unknown"


def test_a_tool_is_no_system(make_event: Make) -> None:
    event = make_event(
        syn(options=b"\x02\x04\x05\xb4", ip_id=54_321, window=65_535, df=False, ttl=240)
    )
    assert value(event, "tool") == "zmap"
    assert "os" not in names(event)
    at = names(event).index("tool")
    assert names(event)[at : at + 3] == ["tool", "tool_evidence", "ip_version"]


def test_without_ja4plus_its_added_field_vanishes(make_event: Make) -> None:
    with_it, without = names(make_event(syn())), names(make_event(syn(), PLAIN))
    assert [name for name in with_it if name not in without] == ["ja4t"]


def test_quirks_are_those_of_the_signature(make_event: Make) -> None:
    event = make_event(syn())
    assert value(event, "quirks") == ("df", "id+")
    assert str(value(event, "p0f_sig")).endswith(":df,id+:0")
    assert "quirks" not in names(make_event(syn(df=False, ip_id=1)))


def test_the_length_is_that_of_all_headers_and_data(make_event: Make) -> None:
    assert value(make_event(syn()), "total_len") == 20 + 20 + len(LINUX)
    assert value(make_event(syn(payload_len=9, ip_options_len=4)), "total_len") == 53 + len(LINUX)
    assert value(make_event(syn6(options=b"")), "total_len") == 60


@pytest.mark.parametrize(
    ("link", "expected"),
    [
        (None, {}),
        (Link(0, 0), {}),
        (Link(0x0605_0403_0202, 0), {"src_mac": "02:02:03:04:05:06"}),
        (Link(0, 12), {"vlan": "12"}),
        (Link(2, 4094), {"src_mac": "02:00:00:00:00:00", "vlan": "4094"}),
    ],
)
def test_the_link_is_left_out_if_it_is_unknown(
    make_event: Make, link: Link | None, expected: dict[str, str]
) -> None:
    printed = params(make_event(syn(link=link)))
    assert {name: printed[name] for name in ("src_mac", "vlan") if name in printed} == expected


def test_an_uptime_comes_with_its_rate() -> None:
    where, syn_packet = context(), syn()
    identity = IDENTIFIER.identify(syn_packet, where.ends.server, where.ends.server_port)
    stack = describe(identity, syn_packet, CHOICES)
    line = headline(where, syn_packet, 5, stack, CHOICES)
    event = syn_event(line, where, syn_packet, stack, Uptime(86_400, 250))
    assert (value(event, "uptime"), value(event, "uptime_hz")) == (86_400, 250)
    check_order(event.name, names(event))


SYN_PACKETS = st.builds(
    syn,
    ttl=st.sampled_from([37, 64, 200]),
    tos=st.sampled_from([0, 3, 0xB8]),
    window=st.sampled_from([1024, 64240, 65535]),
    ip_id=st.sampled_from([0, 1, 7, 8, 54321]),
    df=st.booleans(),
    seq=st.sampled_from([0, 1, 2]),
    flags=st.sampled_from([SYN, SYN | ECE, SYN | ACK]),
    options=st.sampled_from(
        [b"", MACOS, MACOS[:-1], WINDOWS, MACOS.replace(b"\x10\x01", b"\x99\x99")]
    ),
)
IDENTIFIER = Identifier(p0f_db.load_own())


@given(SYN_PACKETS, SYN_PACKETS, st.sampled_from([CHOICES, PLAIN]))
def test_packets_of_one_identity_have_equal_fields(
    one: SynPacket, other: SynPacket, choices: Choices
) -> None:
    """The cache of finished fields relies on it."""
    first, second = (IDENTIFIER.identify(syn_packet, bytes(16), 443) for syn_packet in (one, other))
    if first is second:
        assert describe(first, one, choices) == describe(second, other, choices)
    asked, again = (IDENTIFIER.identify_synack(syn_packet, syn()) for syn_packet in (one, other))
    if asked is again:
        answers = describe_answer(asked, one, choices), describe_answer(again, other, choices)
        assert answers[0] == answers[1]

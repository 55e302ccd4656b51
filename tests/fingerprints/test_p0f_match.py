"""The signature that matches an observation, by the rules of p0f."""

from __future__ import annotations

import json
from typing import Any

import pytest

from deckwire.captures import CaptureFile, ethernet
from deckwire.fingerprints import p0f, p0f_db
from deckwire.fingerprints.p0f import MAX_DISTANCE, QUIRKS, Observation
from deckwire.fingerprints.p0f_db import Signature
from deckwire.fingerprints.p0f_match import SignatureIndex, compare
from deckwire.tcp.syn_packet import SynPacket
from tests.support.fingerprint_frames import LINUX, MSS, sent_in, sent_packets, syn, syn6
from tests.support.shared import CORPUS, labelled_packets, needs_corpus
from tests.support.unpacked import P0F_FP, needs_p0f_fp

LINUX_SIG = "*:64:0:*:*,*:mss,sok,ts,nop,ws:df,id+:0"


def index(*rules: str) -> SignatureIndex:
    """Make an index of rules ``TYPE CLASS SIGNATURE``; a label's flavor is the rule's number."""
    lines = ["classes = unix", "[tcp:request]"]
    for number, rule in enumerate(rules):
        kind, os_class, signature = rule.split()
        lines.append(f"label = {kind}:{os_class}:rule:{number}")
        lines += ["sys = @unix"] if os_class == "!" else []
        lines.append(f"sig = {signature}")
    return SignatureIndex(p0f_db.parse("\n".join(lines).encode(), "test").signatures)


def matched(rules: SignatureIndex, syn_packet: SynPacket) -> tuple[int, bool] | None:
    """Return the number of the rule that matches, and whether the match is fuzzy."""
    observation = p0f.observe(syn_packet)
    match = rules.match(observation)
    return None if match is None else (int(match.label.flavor), not compare(match, observation))


def test_a_specific_signature_comes_before_generic_and_fuzzy_ones() -> None:
    rules = index(
        "s unix *:64:0:*:*,*:mss,sok,ts,nop,ws:df:0",  # no match: the packet has one quirk more
        "g unix *:64:0:*:*,*:mss,sok,ts,nop,ws:df,id+:0",
        "s unix *:255:0:*:*,*:mss,sok,ts,nop,ws:df,id+:0",  # fuzzy: too far away
        "s unix *:64:0:*:mss*44,*:mss,sok,ts,nop,ws:df,id+:0",
        "s unix *:64:0:*:mss*44,7:mss,sok,ts,nop,ws:df,id+:0",
    )
    assert matched(rules, syn(ttl=60)) == (3, False)


def test_a_generic_signature_comes_before_a_fuzzy_one() -> None:
    rules = index(
        "s unix *:128:0:*:*,*:mss,sok,ts,nop,ws:df,id+:0",
        f"g unix {LINUX_SIG}",
        f"g unix {LINUX_SIG}",
    )
    assert matched(rules, syn(ttl=60)) == (1, False)


def test_the_first_fuzzy_signature_matches() -> None:
    rules = index(
        "s unix *:128:0:*:*,*:mss,sok,ts,nop,ws:df,id+:0",
        "s unix *:255:0:*:*,*:mss,sok,ts,nop,ws:df,id+:0",
    )
    assert matched(rules, syn(ttl=60)) == (0, True)


def test_a_tool_must_match_exactly() -> None:
    tool, system = f"s ! {LINUX_SIG}", f"s unix {LINUX_SIG}"
    assert matched(index(tool), syn()) == (0, False)
    assert matched(index(tool), syn(df=False)) is None
    # As in p0f, a system after the tool is not tried.
    assert matched(index(tool, system), syn(df=False)) is None
    assert matched(index(system, tool), syn(df=False)) == (0, True)


@pytest.mark.parametrize(
    ("syn_packet", "fuzzy"),
    [
        (syn(), False),
        (syn(df=False), True),
        (syn(ip_id=0), True),
        (syn(df=False, ip_id=0), True),
        (syn(tos=1), True),
        (syn(seq=0), None),
        (syn(urgent=1), None),
        (syn6(), None),  # a flow label that the rule does not have
        (syn6(flow_label=0), False),  # df and id do not count over IPv6
        (syn6(flow_label=0, tos=1), True),
    ],
)
def test_quirks_match_exactly_or_as_networks_change_them(
    syn_packet: SynPacket, fuzzy: bool | None
) -> None:
    found = matched(index(f"s unix {LINUX_SIG}"), syn_packet)
    assert found is None if fuzzy is None else found == (0, fuzzy)


def test_a_flow_label_does_not_count_over_ipv4() -> None:
    rules = index("s unix *:64:0:*:*,*:mss,sok,ts,nop,ws:df,id+,flow:0")
    assert matched(rules, syn()) == (0, False)
    assert matched(rules, syn6()) == (0, False)
    assert matched(index("s unix 4:64:0:*:*,*:mss,sok,ts,nop,ws::0"), syn6(flow_label=0)) is None


@pytest.mark.parametrize(
    ("rule_ttl", "ttl", "found"),
    [
        ("64", 64, (0, False)),
        ("64", 64 - MAX_DISTANCE, (0, False)),
        ("64", 64 - MAX_DISTANCE - 1, (0, True)),  # fuzzy: too far away
        ("64", 65, (0, True)),
        ("64-", 1, (0, False)),
        ("64-", 65, None),
    ],
)
def test_a_ttl_matches_within_the_distance(
    rule_ttl: str, ttl: int, found: tuple[int, bool] | None
) -> None:
    rule = LINUX_SIG.replace("64", rule_ttl, 1)
    assert matched(index(f"s unix {rule}"), syn(ttl=ttl)) == found


@pytest.mark.parametrize(
    ("signature", "fits"),
    [
        ("*:64:0:1460:*,*:mss,sok,ts,nop,ws:df,id+:0", True),
        ("*:64:0:1400:*,*:mss,sok,ts,nop,ws:df,id+:0", False),
        ("*:64:0:*:64240,*:mss,sok,ts,nop,ws:df,id+:0", True),
        ("*:64:0:*:64241,*:mss,sok,ts,nop,ws:df,id+:0", False),
        ("*:64:0:*:mss*44,*:mss,sok,ts,nop,ws:df,id+:0", True),
        ("*:64:0:*:mtu*44,*:mss,sok,ts,nop,ws:df,id+:0", False),
        ("*:64:0:*:%1606,*:mss,sok,ts,nop,ws:df,id+:0", True),
        ("*:64:0:*:%1607,*:mss,sok,ts,nop,ws:df,id+:0", False),
        ("*:64:0:*:*,7:mss,sok,ts,nop,ws:df,id+:0", True),
        ("*:64:0:*:*,8:mss,sok,ts,nop,ws:df,id+:0", False),
        ("*:64:4:*:*,*:mss,sok,ts,nop,ws:df,id+:0", False),
        ("*:64:0:*:*,*:mss,sok,ts,nop,nop,ws:df,id+:0", False),
        ("*:64:0:*:*,*:mss,sok,ts,nop,ws:df,id+:*", True),
        ("*:64:0:*:*,*:mss,sok,ts,nop,ws:df,id+:+", False),
        ("4:64:0:*:*,*:mss,sok,ts,nop,ws:df,id+:0", True),
        ("6:64:0:*:*,*:mss,sok,ts,nop,ws::0", False),
    ],
)
def test_every_field_counts(signature: str, fits: bool) -> None:
    assert (matched(index(f"s unix {signature}"), syn()) is not None) == fits


def test_the_payload_class_counts() -> None:
    rules = index("s unix *:64:0:*:*,*:mss,sok,ts,nop,ws:df,id+:+", f"s unix {LINUX_SIG[:-1]}*")
    assert matched(rules, syn(payload_len=1)) == (0, False)
    assert matched(rules, syn()) == (1, False)


def test_the_padding_counts() -> None:
    padded = syn(options=LINUX + b"\x00\x00\x00\x00")
    assert matched(index("s unix *:64:0:*:*,*:mss,sok,ts,nop,ws,eol+3:df,id+:0"), padded)
    assert not matched(index("s unix *:64:0:*:*,*:mss,sok,ts,nop,ws,eol+2:df,id+:0"), padded)


def test_a_syn_ack_matches_no_signature_of_syns() -> None:
    rules = index(f"s unix {LINUX_SIG}")
    assert matched(rules, syn(flags=0x12, ack=1)) is None


def test_the_number_of_comparisons_does_not_grow_with_the_file() -> None:
    """Files of 50 and of 1,000 signatures give the same number of candidates."""

    def rules(count: int) -> SignatureIndex:
        kinds = [
            f"s unix *:64:0:*:{1000 + n},{n % 15}:mss,sok,ts,nop,ws:df,id+:0" for n in range(count)
        ]
        return index(*kinds, "s unix *:64:0:*:%803,7:mss,sok,ts,nop,ws:df,id+:0")

    small, large = rules(50), rules(1000)
    for syn_packet in (syn(), syn(window=1022), syn(window=1023), syn(options=MSS), syn6()):
        observation = p0f.observe(syn_packet)
        few, many = small.candidates(observation), large.candidates(observation)
        assert len(many) == len(few) <= 2
    assert matched(large, syn()) == (1000, False)
    assert matched(large, syn(window=1022)) == (22, False)


def filled(signature: Signature) -> Observation:
    """Return an observation that matches the signature, with values for its wildcards."""
    ver = signature.ver or 4
    mss = signature.mss if signature.mss is not None else 1400
    unit, number = signature.window or ("value", 12345)
    wsize = {"value": number, "mss": number * mss, "mtu": number * 1500, "%": number}[unit]
    irrelevant = QUIRKS["flow"] if ver == 4 else QUIRKS["df"] | QUIRKS["id+"] | QUIRKS["id-"]
    return Observation(
        direction=signature.direction,
        ver=ver,
        ttl=signature.ttl - 3,
        olen=signature.olen,
        mss=mss,
        wsize=wsize,
        multiple=(unit, number) if unit in ("mss", "mtu") else None,
        scale=signature.scale if signature.scale is not None else 11,
        layout=signature.layout,
        padding=signature.padding,
        quirks=signature.quirks & ~irrelevant,
        payload=bool(signature.payload),
    )


def test_each_included_signature_can_match() -> None:
    own = p0f_db.load_own().signatures
    rules = SignatureIndex(own)
    for signature in own:
        observation = filled(signature)
        match = rules.match(observation)
        assert match is not None
        assert match.label == signature.label, f"line {signature.line}: {match} comes first"
        assert compare(match, observation)


@needs_corpus
@needs_p0f_fp
def test_the_file_of_p0f_gives_the_labels_that_p0f_printed() -> None:
    rules = SignatureIndex(p0f_db.load(P0F_FP).signatures)
    expected = labelled_packets()
    checked = set()
    syn_mss = {}
    for sent in sent_packets(CORPUS / "syn_os.pcap"):
        port = sent.sport if sent.is_syn else sent.dport
        entry = expected[port]
        observation = p0f.observe(sent.syn_packet, None if sent.is_syn else syn_mss[port])
        if sent.is_syn:
            syn_mss[port] = observation.mss
        if sent.is_syn != (entry["direction"] == "syn"):
            continue
        match = rules.match(observation)
        assert match is not None, entry["id"]
        assert str(match.label) == entry["p0f_says"]
        assert str(match.label) in entry["accept_labels"]
        assert match.label.generic == ("generic" in entry["p0f_params"])
        checked.add(port)
    assert checked == set(expected)


@needs_corpus
@needs_p0f_fp
def test_every_packet_of_the_corpus_matches_as_in_p0f() -> None:
    """Raw signature, label and kind of match of all SYN and SYN-ACK packets."""
    rules = SignatureIndex(p0f_db.load(P0F_FP).signatures)
    agreed = 0
    for path in sorted((CORPUS / "expected").glob("*.json")):
        expected = json.loads(path.read_text())
        agreed += _agree_on(expected, rules)
    assert agreed >= 700, agreed


def _agree_on(expected: dict[str, Any], rules: SignatureIndex) -> int:
    streams = {
        (stream["sport"], stream["dport"]): stream["p0f"]
        for stream in expected["streams"]
        if stream.get("p0f")
    }
    if not streams:
        return 0
    agreed = 0
    syn_mss = {}
    checked = set()
    with CaptureFile(CORPUS / "pcap" / expected["pcap"]) as capture:
        for captured in capture:
            frame = ethernet(captured)
            sent = None if frame is None else sent_in(frame)
            if sent is None:
                continue
            ports = (sent.sport, sent.dport) if sent.is_syn else (sent.dport, sent.sport)
            side = "syn" if sent.is_syn else "syn_ack"
            observation = p0f.observe(sent.syn_packet, None if sent.is_syn else syn_mss.get(ports))
            if sent.is_syn:
                syn_mss[ports] = observation.mss
            p0f_says = streams.get(ports, {}).get(side)
            if p0f_says is None or (ports, side) in checked:
                continue
            checked.add((ports, side))
            assert observation.signature == p0f_says["raw_sig"], expected["pcap"]
            match = rules.match(observation)
            assert (str(match.label) if match else None) == p0f_says["os"], expected["pcap"]
            assert _params(match, observation, sent.syn_packet) == p0f_says["params"], expected[
                "pcap"
            ]
            agreed += 1
    return agreed


def _params(match: Signature | None, observation: Observation, syn_packet: SynPacket) -> str:
    """Return the words that p0f prints for the kind of match."""
    is_fuzzy = match is not None and not compare(match, observation)
    distance = p0f.distance_guess(syn_packet.ttl)
    if match is not None:
        by_signature = match.ttl - observation.ttl
        if not is_fuzzy or 0 <= by_signature <= MAX_DISTANCE or match.ttl_is_maximum:
            distance = by_signature
    words = {
        "generic": match is not None and match.label.generic,
        "fuzzy": is_fuzzy,
        "random_ttl": match is not None and match.ttl_is_maximum,
        "excess_dist": distance > MAX_DISTANCE,
        f"tos:0x{syn_packet.tos >> 2:02x}": syn_packet.tos >> 2 != 0,
    }
    return " ".join(word for word, holds in words.items() if holds) or "none"

"""A small part of ``make differential``, and tests that a comparison can fail."""

from __future__ import annotations

import os
import shutil
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.differential import comparison, ssh_offers, stacks, wire
from tests.differential.comparison import TLS
from tests.differential.generated import generated
from tests.differential.ssh_offers import SSH
from tests.differential.wire import Exchange
from tests.support.flights import client_hello, handshake, message, record

CASES = 120

needs_tshark = pytest.mark.skipif(shutil.which("tshark") is None, reason="tshark not installed")
needs_go = pytest.mark.skipif(shutil.which("go") is None, reason="Go not installed")
needs_rtls = pytest.mark.skipif(stacks.rtls() is None, reason="rtls not installed")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="loads BPF programs")


def some_exchanges() -> list[Exchange]:
    flights = [
        handshake(ssl.TLSVersion.TLSv1_2),
        handshake(ssl.TLSVersion.TLSv1_3),
        handshake(ssl.TLSVersion.TLSv1_3, retry=True),
    ]
    return [Exchange("OpenSSL", *flight) for flight in flights] + generated(7, CASES)


@needs_tshark
def test_ja3_and_ja3s_equal_those_of_tshark(tmp_path: Path) -> None:
    exchanges = some_exchanges()
    wire.write_pcap(tmp_path / "hellos.pcap", exchanges)
    theirs = comparison.tshark(tmp_path / "hellos.pcap", len(exchanges))
    report = comparison.compare(TLS, exchanges, theirs)
    assert report.different == []
    assert report.clients == report.servers == len(exchanges) - sum(report.excluded.values())
    assert report.clients > CASES * 0.9


@needs_tshark
def test_hassh_and_hasshserver_equal_those_of_tshark(tmp_path: Path) -> None:
    exchanges = ssh_offers.generated(7, CASES)
    wire.write_pcap(tmp_path / "offers.pcap", exchanges)
    theirs = SSH.tshark(tmp_path / "offers.pcap", len(exchanges))
    report = comparison.compare(SSH, exchanges, theirs)
    assert report.different == []
    assert report.clients == report.servers == CASES


@pytest.mark.root
@needs_root
def test_a_replay_gives_the_fingerprints_of_the_parsers(tmp_path: Path) -> None:
    from tests.support.replaying import ReplayLab  # noqa: PLC0415 - works only as root

    exchanges = some_exchanges()
    wire.write_pcap(tmp_path / "hellos.pcap", exchanges)
    with ReplayLab() as lab:
        events = lab.capture(tmp_path / "hellos.pcap", [wire.SERVER_TEXT])
    found = comparison.replayed(events, len(exchanges))
    assert found == [comparison.md5s(comparison.ours(each)) for each in exchanges]


@pytest.mark.root
@needs_root
def test_a_replay_gives_the_hashes_of_the_reader(tmp_path: Path) -> None:
    from tests.support.replaying import ReplayLab  # noqa: PLC0415 - works only as root

    exchanges = ssh_offers.generated(9, CASES)
    wire.write_pcap(tmp_path / "offers.pcap", exchanges)
    with ReplayLab() as lab:
        events = lab.capture(tmp_path / "offers.pcap", [wire.SERVER_TEXT])
    assert SSH.replayed(events, CASES) == [ssh_offers.ours(each) for each in exchanges]


def test_a_difference_is_reported() -> None:
    exchanges = generated(8, 3)
    ours = [comparison.ours(each) for each in exchanges]
    wrong = [(ours[0][0] + "0", ours[0][1]), (ours[1][0], ""), ours[2]]
    report = comparison.compare(TLS, exchanges, wrong)
    assert [text.partition("\n")[0] for text in report.different] == [
        each.what for each in exchanges[:2]
    ]


@pytest.mark.parametrize(
    ("kind", "body", "excluded"),
    [(10, b"\0\2\0\x1d", True), (11, b"\1\0", True), (13, b"\0\2\4\3", False)],
)
def test_only_repeated_lists_of_ja3_are_excluded(kind: int, body: bytes, excluded: bool) -> None:
    def exchange(*extensions: tuple[int, bytes]) -> Exchange:
        return Exchange("made", record(message(1, client_hello(*extensions))), b"")

    assert bool(comparison.exclusion(exchange((kind, body), (kind, body)))) is excluded
    assert not comparison.exclusion(exchange((kind, body)))


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(stacks.go_server, marks=needs_go),
        pytest.param(stacks.rustls, marks=needs_rtls),
        pytest.param(stacks.rustls_server, marks=needs_rtls),
    ],
)
def test_both_sides_of_the_handshakes_of_a_stack_are_kept(
    make: Callable[[], list[Exchange]],
) -> None:
    pairs = [comparison.ours(exchange) for exchange in make()]
    assert pairs
    assert all(client for client, _ in pairs)
    # A server may refuse some offers, but not most of them.
    assert sum(bool(server) for _, server in pairs) > len(pairs) * 0.8

"""The fields of round-trip times: the texts of kept ones, the units of added ones."""

from __future__ import annotations

import pytest

from deckwire.events.latency import ja4l_fields, kept_fields, rtt_fields
from deckwire.tcp.handshake import Handshake
from tests.support.event_samples import handshake, synack


@pytest.mark.parametrize(
    ("delay_ns", "text"),
    [
        (0, "0.0"),
        (4_999, "0.0"),
        (5_001, "0.01"),
        (2_400_000, "2.4"),
        (2_456_789, "2.46"),
        (1_250_000_000, "1250.0"),
    ],
)
def test_ja4l_rtt_ms_is_the_text_of_a_rounded_float(delay_ns: int, text: str) -> None:
    (name, rtt), (ttl_name, ttl) = kept_fields(handshake(synack=synack(time_ns=delay_ns))).fields
    assert (name, str(rtt)) == ("ja4l_rtt_ms", text)
    assert (ttl_name, ttl) == ("ja4l_client_ttl", 52)


def test_an_answer_stamped_before_its_question_has_no_round_trip() -> None:
    backwards = handshake(synack=synack(time_ns=-1))
    assert kept_fields(backwards).fields == (("ja4l_client_ttl", 52),)
    assert backwards.rtt_server_us is None


def test_half_a_handshake_has_no_kept_fields() -> None:
    assert kept_fields(handshake(syn=None)).fields == ()
    assert kept_fields(handshake(synack=None)).fields == ()
    assert kept_fields(Handshake()).fields == ()


def test_each_round_trip_is_there_if_it_is_known() -> None:
    assert rtt_fields(None, None).fields == ()
    assert rtt_fields(1, None).fields == (("rtt_client_us", 1),)
    assert rtt_fields(None, 0).fields == (("rtt_server_us", 0),)
    assert ja4l_fields(handshake()).fields == (
        ("ja4l_c", "15050_52"),
        ("ja4l_s", "1200_128"),
    )
    assert ja4l_fields(handshake(established_ns=None)).fields == (("ja4l_s", "1200_128"),)
    assert ja4l_fields(handshake(syn=None)).fields == ()

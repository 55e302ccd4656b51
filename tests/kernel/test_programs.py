from __future__ import annotations

import os
from errno import EINVAL
from struct import Struct

import pytest

from deckwire.kernel.capabilities import powerless
from deckwire.kernel.loading import Loaded
from deckwire.kernel.programs import FRAME_BYTES

RELEASE = tuple(int(part) for part in os.uname().release.split(".")[:2])
HAS_TCX = RELEASE >= (6, 6)
U32, U64 = Struct("=I"), Struct("=Q")

pytestmark = pytest.mark.root


def test_a_test_run_sets_the_context_and_returns_the_verdict(loaded: Loaded) -> None:
    run = loaded.programs["context"].test_run(
        bytes(60), tstamp=123_456_789_012_345, gso_segs=3, gso_size=1_400
    )
    numbers = loaded.maps["numbers"]
    seen = [numbers.lookup(U32.pack(key)) for key in range(3)]
    assert seen == [U64.pack(123_456_789_012_345), U64.pack(3), U64.pack(1_400)]
    assert run.verdict == 7  # the program returns it under the replay clock


def test_a_negative_verdict_is_negative(loaded: Loaded) -> None:
    assert loaded.programs["tc_ingress"].test_run(bytes(60)).verdict == -1


def test_the_frame_is_what_the_program_sees(loaded: Loaded) -> None:
    loaded.rings.drain()
    frame = bytes(range(200))
    loaded.programs["submit"].test_run(bytes(400), tstamp=1)
    loaded.programs["submit"].test_run(frame, tstamp=2)
    _, second = (sample for _, sample in loaded.rings.drain())
    assert second[:8] == U64.pack(2)
    # The test run removes the EtherType and restores it, so the bytes are the same.
    assert second[8 : 8 + len(frame)] == frame


@pytest.mark.parametrize("length", [0, 13, FRAME_BYTES + 1])
def test_a_frame_too_long_or_short_for_a_test_run_is_an_error(loaded: Loaded, length: int) -> None:
    with pytest.raises(OSError, match=f"{length} bytes") as caught:
        loaded.programs["context"].test_run(bytes(length))
    assert caught.value.errno == EINVAL


def test_what_is_allowed_is_found_by_trying(loaded: Loaded) -> None:
    program = loaded.programs["tc_ingress"]
    before = loaded.maps["hits"].lookup(U32.pack(0))
    assert program.may_test_run()
    assert program.may_link() == HAS_TCX
    with powerless():
        # Linux 5.10 lets nobody use a program by its descriptor.
        assert program.may_test_run() == (RELEASE >= (5, 19))
        assert program.may_link() == HAS_TCX
    assert loaded.maps["hits"].lookup(U32.pack(0)) == before

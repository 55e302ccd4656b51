from __future__ import annotations

import os

import pytest

from deckwire.loader import lock
from deckwire.loader.errors import LoaderError

IFINDEX = 0x7FFF_FFFF
"""No interface has it; the lock does not need one."""


def test_a_lock_is_held_until_its_socket_is_closed() -> None:
    assert not lock.is_claimed(IFINDEX)
    with lock.claim(IFINDEX, "eth0"):
        assert lock.is_claimed(IFINDEX)
        assert not lock.is_claimed(IFINDEX - 1)
        assert not lock.is_claimed(IFINDEX // 10)
        with pytest.raises(LoaderError, match=rf"^eth0 .* process {os.getpid()} ") as caught:
            lock.claim(IFINDEX, "eth0")
        assert caught.value.passing
    assert not lock.is_claimed(IFINDEX)

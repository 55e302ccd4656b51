"""Not one of NAMES: a target with something to find, for the test of the run itself."""

from __future__ import annotations


def seeds() -> list[bytes]:
    """The one that is found at once."""
    return [b"sound", b"unsound"]


def check(data: bytes) -> None:
    """Fails for one of the seeds."""
    if data == b"unsound":
        raise ValueError("what was to be found")

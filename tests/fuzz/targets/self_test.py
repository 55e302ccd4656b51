"""A target with a planted finding, to test the runner itself; it is not one of NAMES."""

from __future__ import annotations


def seeds() -> list[bytes]:
    """Return inputs; the second is the finding."""
    return [b"sound", b"unsound"]


def check(data: bytes) -> None:
    """Raise for one of the seeds."""
    if data == b"unsound":
        raise ValueError("the planted finding")

"""GREASE: reserved values that clients sprinkle in so that servers stay tolerant (RFC 8701)."""

from __future__ import annotations

GREASE = frozenset(0x0A0A + 0x1010 * n for n in range(16))
"""The sixteen values."""


def is_grease(value: int) -> bool:
    """Tell whether a 16-bit cipher suite, extension, group, version… is one of the sixteen."""
    return value in GREASE

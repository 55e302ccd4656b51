"""The field ``os_guess``: one word for a system, from a signature's label or a recognised tool."""

from __future__ import annotations

from deckwire.fingerprints.p0f_db import Label

UNKNOWN = "unknown"

_WORDS = {
    "Linux": "linux",
    "Android": "linux",
    "Windows": "windows",
    "macOS/iOS": "macos_ios",
    "macOS": "macos_ios",
    "Mac OS X": "macos_ios",
    "MacOS X": "macos_ios",
    "iOS": "macos_ios",
    "FreeBSD": "freebsd",
    "OpenBSD": "openbsd",
    "lwIP": "embedded",
    "Cisco IOS": "embedded",
    "Nintendo": "embedded",
    "Blackberry": "embedded",
}
"""By label name, of Deckwire's signatures and of p0f's; every other name is unknown."""


def os_guess(label: Label | None, tool: str | None) -> str:
    """Return linux windows macos_ios freebsd openbsd embedded nmap or unknown (docs/events.md).

    A tool does not show the system that it runs on. nmap has a word of its own; with any other
    tool the system is unknown.
    """
    if tool is not None:
        return "nmap" if tool == "nmap" else UNKNOWN
    if label is None or label.is_tool:
        return UNKNOWN
    return _WORDS.get(label.name, UNKNOWN)

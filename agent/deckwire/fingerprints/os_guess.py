"""The coarse word for a system, ``os_guess``, from a signature's label or a recognised tool."""

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
"""By label name, Deckwire's and p0f's own; a name that is not here is unknown."""


def os_guess(label: Label | None, tool: str | None) -> str:
    """One of linux windows macos_ios freebsd openbsd embedded nmap unknown (events, 1.2).

    A tool says nothing about the system it runs on: only nmap has a word, other tools are unknown.
    """
    if tool is not None:
        return "nmap" if tool == "nmap" else UNKNOWN
    if label is None or label.is_tool:
        return UNKNOWN
    return _WORDS.get(label.name, UNKNOWN)

"""The systems that registries name, in their words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deckwire.fingerprints.claimed_system import family_of


@pytest.mark.parametrize(
    ("system", "family"),
    [
        ("linux", "linux"),
        ("Linux 5.x-6.x", "linux"),
        ("Ubuntu 22.04", "linux"),
        ("debian", "linux"),
        ("AlmaLinux 9", "linux"),
        ("openSUSE", "linux"),
        ("Red Hat Enterprise Linux 9", "linux"),
        ("windows", "windows"),
        ("Windows 10", "windows"),
        ("Microsoft Windows Server 2019", "windows"),
        ("win10", "windows"),
        ("macOS 14", "macos_ios"),
        ("Mac OS X", "macos_ios"),
        ("iOS 17", "macos_ios"),
        ("FreeBSD 14.1", "freebsd"),
        ("openbsd", "openbsd"),
        ("embedded", "embedded"),
        ("Cisco IOS 15", "embedded"),
        ("Linux on a router", None),
        ("darwinian", None),
        ("twins", None),
        ("Plan 9", None),
        ("", None),
    ],
)
def test_a_system_is_known_by_its_words(system: str, family: str | None) -> None:
    assert family_of(system) == family


@given(st.text())
def test_any_text_is_a_family_or_none(system: str) -> None:
    assert family_of(system) in (
        *("linux", "windows", "macos_ios", "freebsd", "openbsd", "embedded"),
        None,
    )

"""The word in os_guess."""

from __future__ import annotations

import pytest

from deckwire.fingerprints import p0f_db
from deckwire.fingerprints.os_guess import os_guess
from deckwire.fingerprints.p0f_db import TOOL, Label
from tests.support.unpacked import P0F_FP, needs_p0f_fp

WORDS = ["linux", "windows", "macos_ios", "freebsd", "openbsd", "embedded", "nmap", "unknown"]


def label(name: str, os_class: str = "unix") -> Label:
    return Label(generic=False, os_class=os_class, name=name, flavor="1")


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("Linux", "linux"),
        ("Windows", "windows"),
        ("macOS/iOS", "macos_ios"),
        ("Mac OS X", "macos_ios"),
        ("MacOS X", "macos_ios"),
        ("iOS", "macos_ios"),
        ("FreeBSD", "freebsd"),
        ("OpenBSD", "openbsd"),
        ("lwIP", "embedded"),
        ("Nintendo", "embedded"),
        ("Solaris", "unknown"),
        ("BaiduSpider", "unknown"),
    ],
)
def test_a_system_has_a_word(name: str, word: str) -> None:
    assert os_guess(label(name), None) == word


def test_a_tool_is_no_system() -> None:
    assert os_guess(None, "nmap") == "nmap"
    assert os_guess(label("Linux"), "nmap") == "nmap"
    assert os_guess(label("Linux"), "masscan") == "unknown"
    assert os_guess(label("Linux", TOOL), None) == "unknown"


def test_without_label_and_tool_it_is_unknown() -> None:
    assert os_guess(None, None) == "unknown"


def test_own_labels_have_words_of_the_contract() -> None:
    for signature in p0f_db.load_own().signatures:
        assert os_guess(signature.label, None) in WORDS


@needs_p0f_fp
def test_labels_of_p0f_have_words_of_the_contract() -> None:
    guesses = {os_guess(signature.label, None) for signature in p0f_db.load(P0F_FP).signatures}
    assert guesses >= {"linux", "windows", "macos_ios", "freebsd", "openbsd", "unknown"}
    assert guesses <= set(WORDS)

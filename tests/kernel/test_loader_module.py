from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
from pathlib import Path
from struct import pack
from types import SimpleNamespace

import pytest

from deckwire.loader.errors import LoaderError
from deckwire.loader.module import load_programs
from deckwire.loader.signatures import known_signatures
from deckwire.loader.symbols import SYMBOLS

KINDS = {"tc_ingress": "SCHED_CLS", "xdp_ingress": "XDP"}


def module_that_refuses(refused: str) -> SimpleNamespace:
    """Stands for a bcc.BPF and the verifier. A program's descriptor is its kind."""

    def load_func(name: str, kind: int) -> SimpleNamespace:
        if name == refused:
            raise Exception("Permission denied")
        return SimpleNamespace(fd=kind)

    return SimpleNamespace(SCHED_CLS=3, XDP=6, load_func=load_func)


def test_each_program_is_loaded_as_its_kind() -> None:
    programs = load_programs(module_that_refuses(""), KINDS)
    assert [(name, program.fd) for name, program in programs.items()] == [
        ("tc_ingress", 3),
        ("xdp_ingress", 6),
    ]


@pytest.mark.parametrize("name", KINDS)
def test_the_refused_program_is_named(name: str) -> None:
    with pytest.raises(LoaderError, match=f"^the kernel refused the program {name} "):
        load_programs(module_that_refuses(name), KINDS)


@pytest.mark.root
def test_signatures_that_this_kernel_knows() -> None:
    """A key for MD5 can be set where it is known, and only there."""
    known = known_signatures()
    assert known.keys() == {"KNOWS_MD5", "KNOWS_AO"}
    address = pack("=HH4s", socket.AF_INET, 0, socket.inet_aton("192.0.2.1")).ljust(128, b"\0")
    key = address + pack("=BBHi80s", 0, 0, 3, 0, b"key")
    with socket.socket() as made:
        try:
            made.setsockopt(socket.IPPROTO_TCP, 14, key)
            can_set = True
        except OSError as error:
            can_set = error.errno != errno.ENOPROTOOPT
    assert known["KNOWS_MD5"] is can_set


@pytest.mark.root
def test_the_symbols_are_empty_for_the_one_process_alone() -> None:
    script = (
        "from deckwire.loader.symbols import empty_symbols\n"
        f"print(empty_symbols(), len(open({SYMBOLS!r}).read()))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True
    )
    assert done.stdout == "True 0\n"
    assert Path(os.fsdecode(SYMBOLS)).read_text()

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from deckwire.loader import module
from deckwire.loader.errors import LoaderError
from deckwire.loader.symbols import SYMBOLS

KINDS = {"tc_ingress": "SCHED_CLS", "xdp_ingress": "XDP"}


class Compiler:
    """Stands for BCC and the verifier, which refuses `bad` if it was optimised once."""

    def __init__(self, bad: str, *, always: bool = False) -> None:
        self._bad = bad
        self._always = always
        self.compiled: list[Sequence[str]] = []
        self.cleaned = 0

    def __call__(self, request: dict[str, Any], more_flags: Sequence[str]) -> SimpleNamespace:
        self.compiled.append(more_flags)
        refuses = self._always or more_flags == module.ONCE

        def load_func(name: str, kind: int) -> SimpleNamespace:
            if refuses and name == self._bad:
                raise Exception("Permission denied")
            return SimpleNamespace(fd=100 * len(self.compiled) + kind)

        def cleanup() -> None:
            self.cleaned += 1

        return SimpleNamespace(SCHED_CLS=3, XDP=6, load_func=load_func, cleanup=cleanup)


@pytest.mark.parametrize(
    ("bad", "flags", "fds"),
    [
        ("", [module.ONCE], [103, 106]),
        ("xdp_ingress", [module.ONCE, module.TWICE], [203, 206]),
    ],
)
def test_what_is_refused_is_compiled_again_with_all_passes(
    bad: str, flags: list[Sequence[str]], fds: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    compiler = Compiler(bad)
    monkeypatch.setattr(module, "compile_module", compiler)
    _, programs = module.compile_and_load({}, KINDS)
    assert compiler.compiled == flags
    assert compiler.cleaned == len(flags) - 1
    assert list(programs) == list(KINDS)
    assert [program.fd for program in programs.values()] == fds


def test_what_is_refused_twice_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "compile_module", Compiler("xdp_ingress", always=True))
    with pytest.raises(LoaderError, match=r"^the kernel refused the program xdp_ingress"):
        module.compile_and_load({}, KINDS)


@pytest.mark.root
def test_the_symbols_are_hidden_from_the_one_process_alone() -> None:
    script = (
        "from deckwire.loader.symbols import hide_symbols\n"
        f"print(hide_symbols(), len(open({SYMBOLS!r}).read()))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True
    )
    assert done.stdout == "True 0\n"
    assert Path(os.fsdecode(SYMBOLS)).read_text()

"""A small part of the comparison with real receivers: two seeds of 300 connections each."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.differential import receivers
from tests.support.shared import SHARED

SEEDS, COUNT = [1, 2], 300
TCP_PERCENT = 98.5
"""The share that is right, at least. docs/evasion.md names what no observer can know."""

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="makes namespaces"),
    pytest.mark.skipif(not (SHARED / "differential").is_dir(), reason=f"no {SHARED}/differential"),
]


def test_every_hello_that_a_tls_server_answers_is_reported(tmp_path: Path) -> None:
    done = receivers.run(receivers.tls(tmp_path, SEEDS, COUNT))
    assert done.returncode == 0, done.stdout[-3_000:] + done.stderr[-3_000:]
    assert "answered and right" in done.stdout


def test_what_linux_accepts_is_what_is_reported(tmp_path: Path) -> None:
    done = receivers.run(receivers.tcp(tmp_path, SEEDS, COUNT, TCP_PERCENT))
    assert done.returncode == 0, done.stdout[-3_000:] + done.stderr[-3_000:]

"""A small part of the comparison with real receivers: two seeds of 300 connections each."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.differential import receivers
from tests.support.shared import SHARED

SEEDS, COUNT = [1, 2], 300
TCP_PERCENT = 99
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


@pytest.mark.parametrize(
    ("seed", "index"),
    [
        pytest.param(902, 215, id="a header in three segments"),
        pytest.param(2016, 52, id="a RST in front of a byte, after holes"),
    ],
)
def test_what_once_differed_is_right(tmp_path: Path, seed: int, index: int) -> None:
    done = receivers.run(receivers.connection(tmp_path, seed, index))
    assert done.returncode == 0, done.stdout[-3_000:] + done.stderr[-3_000:]
    assert "all: 1 of 1 right" in done.stdout

"""Fixtures of the outputs' tests."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.rsyslog_server import RSYSLOGD, Rsyslog


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A folder whose path leaves room for a socket's name in it."""
    with tempfile.TemporaryDirectory(prefix="dw-") as folder:
        yield Path(folder)


@pytest.fixture
def rsyslog(short_path: Path) -> Iterator[Rsyslog]:
    if RSYSLOGD is None:
        pytest.skip("rsyslogd is not installed; `make setup` installs it")
    server = Rsyslog(short_path)
    try:
        server.start()
        yield server
    finally:
        server.stop()

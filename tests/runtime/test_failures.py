"""Errors of starting become the one line that a user sees."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from deckwire.errors import UsageError
from deckwire.fingerprints.p0f_db import SignatureError
from deckwire.kernel.loader_process import LoadError
from deckwire.runtime.failures import failing


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (LoadError("no interface nosuch0"), "no interface nosuch0"),
        (LoadError("refused", Path("/logs/x.log")), "refused; the whole log is in /logs/x.log"),
        (SignatureError("own.fp:3: what"), "own.fp:3: what"),
        (ValueError("output 'x': no such"), "output 'x': no such"),
        (FileNotFoundError(2, "No such file or directory", "/x"), "/x: No such file or directory"),
        (PermissionError(1, "Operation not permitted"), "Operation not permitted"),
        (OSError("odd"), "odd"),
    ],
)
def test_one_line(error: Exception, line: str) -> None:
    with pytest.raises(UsageError) as caught, failing():
        raise error
    assert str(caught.value) == line
    assert caught.value.__cause__ is error


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (LoadError("refused"), 2),
        (LoadError("the loader did not answer", passing=True), 1),
        (ValueError("output 'x': no such"), 2),
        (FileNotFoundError(2, "No such file or directory", "/x"), 2),
        (OSError(errno.ENOSPC, "No space left on device", "/x"), 1),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), 1),
    ],
)
def test_a_passing_error_has_another_status(error: Exception, status: int) -> None:
    with pytest.raises(UsageError) as caught, failing():
        raise error
    assert caught.value.status == status


def test_an_error_that_is_no_users_fault_is_not_turned() -> None:
    with pytest.raises(KeyError), failing():
        raise KeyError("a bug")
    with failing():
        pass

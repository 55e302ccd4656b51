"""Programs and data that tests use if they are installed, or unpacked by tests/unpack.sh."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.support.shared import CHECKOUT

UNPACKED = CHECKOUT / ".unpacked"
_FOLDERS = ("usr/local/sbin", "usr/local/bin", "usr/sbin", "usr/bin", "sbin", "bin")
_LIBRARIES = ("usr/lib/x86_64-linux-gnu", "usr/lib/syslog-ng")


def data(path: str) -> Path:
    """A file of a package, by its absolute path there."""
    installed = Path(path)
    return installed if installed.is_file() else UNPACKED / path.lstrip("/")


P0F_FP = data("/etc/p0f/p0f.fp")
needs_p0f_fp = pytest.mark.skipif(not P0F_FP.is_file(), reason="p0f.fp is not installed")


def program(name: str) -> str | None:
    """The path of a program, also one that only root's PATH has; None if there is none."""
    installed = (f"/{folder}" for folder in _FOLDERS)
    unpacked = (str(UNPACKED / folder) for folder in _FOLDERS)
    return shutil.which(name, path=":".join([os.environ["PATH"], *installed, *unpacked]))


def environment() -> dict[str, str]:
    """The environment in which an unpacked program finds its libraries."""
    libraries = ":".join(str(UNPACKED / folder) for folder in _LIBRARIES)
    return os.environ | {"LD_LIBRARY_PATH": libraries}


def syslog_ng() -> list[str] | None:
    """The command for syslog-ng, to be run in `environment()`; None if it is missing."""
    path = program("syslog-ng")
    if path is None:
        return None
    if not Path(path).is_relative_to(UNPACKED):
        return [path]
    modules = sorted((UNPACKED / "usr/lib/syslog-ng").glob("[0-9]*"))
    return [path, "--module-path", str(modules[-1])]

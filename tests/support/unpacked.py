"""Programs that tests run if they are installed, or unpacked by tests/unpack.sh."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from tests.support.shared import CHECKOUT

UNPACKED = CHECKOUT / ".unpacked"
_FOLDERS = ("usr/local/sbin", "usr/local/bin", "usr/sbin", "usr/bin", "sbin", "bin")
_LIBRARIES = ("usr/lib/x86_64-linux-gnu", "usr/lib/syslog-ng")


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

"""The kernel objects that were compiled when Deckwire was installed, one a file.

A file's name is a hash of everything that its contents depend on. So an edited source, another size
of a table or another kernel's features find no file, and are compiled at the start.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any

from deckwire.loader.kernel_object import KernelObject, MalformedObjectError

DIRECTORY = os.path.join(os.path.dirname(os.path.dirname(__file__)), "objects")
"""In the package, where only who installs it can write."""
SUFFIX = ".json"

_SOURCES = (".c", ".h")
_WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH


class NotLoadedError(Exception):
    """There is a file, but it is not loaded: why."""


def find(request: Mapping[str, Any], flags: Sequence[str]) -> KernelObject | None:
    """The kept object for a request; None if there is none, so that it is compiled.

    Args:
        request: as kernel/loading.py makes it.
        flags: those that the compiler would get.

    Raises:
        NotLoadedError: there is a file, and it is to be compiled nevertheless.
    """
    if request["headers"] != "shim":
        return None
    try:
        path = os.path.join(DIRECTORY, file_name(request, flags))
        with open(path, "rb") as file:
            if not _is_trusted(file.fileno()):
                raise NotLoadedError(f"{path}: others than root can write it")
            data = file.read()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise NotLoadedError(f"{error.filename}: {error.strerror}") from error
    try:
        return KernelObject.from_json(data)
    except MalformedObjectError as error:
        raise NotLoadedError(f"{path} is damaged: {error}") from error


def any_kept() -> bool:
    """Whether there are any. If not, the compiler is certainly needed."""
    try:
        return any(name.endswith(SUFFIX) for name in os.listdir(DIRECTORY))
    except OSError:
        return False


def file_name(request: Mapping[str, Any], flags: Sequence[str]) -> str:
    """The name of the file for a request: a hash of sources, flags and the wanted programs.

    Raises:
        OSError: a source cannot be read.
    """
    digest = sha256()

    def absorb(part: bytes) -> None:
        digest.update(len(part).to_bytes(8, "little") + part)

    for word in (*flags, *request["programs"], "jumps", *request["jumps"]):
        absorb(word.encode())
    for path in (request["source"], *_sources(request["bpf"])):
        absorb(path.removeprefix(request["bpf"]).encode())
        with open(path, "rb") as file:
            absorb(file.read())
    return digest.hexdigest()[:32] + SUFFIX


def _sources(directory: str) -> list[str]:
    """The paths of all files that a program may include, in an order that is always the same."""
    return sorted(
        os.path.join(folder, name)
        for folder, _, names in os.walk(directory)
        for name in names
        if name.endswith(_SOURCES)
    )


def _is_trusted(fd: int) -> bool:
    """Whether nobody but root and the owner of this process can have written the file."""
    status = os.fstat(fd)
    return status.st_uid in (0, os.geteuid()) and not status.st_mode & _WRITABLE_BY_OTHERS

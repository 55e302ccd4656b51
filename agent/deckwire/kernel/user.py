"""The user that the agent becomes after its start (credentials(7))."""

from __future__ import annotations

import ctypes
import os
import pwd
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Self

from deckwire.errors import shown
from deckwire.kernel.syscalls import failure

_PR_SET_KEEPCAPS = 8
"""<linux/prctl.h>."""

_prctl = ctypes.CDLL(None, use_errno=True)["prctl"]
_prctl.argtypes = (ctypes.c_int, *(ctypes.c_ulong,) * 4)


def find_account(name: str) -> pwd.struct_passwd:
    """What this host knows of a user; ValueError with what is wrong if it knows none."""
    try:
        return pwd.getpwnam(name)
    # A name with a NUL or with bytes that are not UTF-8 raises ValueError.
    except (KeyError, ValueError):
        raise ValueError(f"this host has no user {shown(name)}; make it, or name another") from None


@dataclass(frozen=True, slots=True)
class User:
    """A user of this host with its main group."""

    name: str
    uid: int
    gid: int

    @classmethod
    def named(cls, name: str) -> Self:
        """The user of this name. Raises ValueError with what is wrong if it cannot be used."""
        found = find_account(name)
        if not found.pw_uid:
            raise ValueError(
                f"{shown(name)} has the user id of root; name another user, or leave it out"
            )
        return cls(name, found.pw_uid, found.pw_gid)

    def need_reachable(self) -> None:
        """Raise ValueError with what is wrong if this process cannot become this user."""
        uid = os.geteuid()
        if uid not in (0, self.uid):
            raise ValueError(
                f"user {self.name}: only root can become another user; start Deckwire as root or as"
                f" {self.name}, or leave the user out"
            )

    @contextmanager
    def acting(self) -> Iterator[None]:
        """In the block, files are opened and made with the rights of this user.

        The calling thread must be the only one.

        Raises:
            OSError: the kernel refuses the change.
        """
        if os.geteuid() == self.uid:
            yield
            return
        uid, gid, groups = os.geteuid(), os.getegid(), os.getgroups()
        self._join_groups()
        try:
            os.setegid(self.gid)
            os.seteuid(self.uid)
            yield
        finally:
            os.seteuid(uid)
            os.setegid(gid)
            os.setgroups(groups)

    def become(self) -> None:
        """Change user and groups of the process for ever.

        The calling thread keeps its permitted capabilities. All other threads lose theirs.

        Raises:
            OSError: the kernel refuses the change.
        """
        if os.getresuid() == (self.uid,) * 3:
            return
        if _prctl(_PR_SET_KEEPCAPS, 1, 0, 0, 0) < 0:
            raise failure(ctypes.get_errno(), "PR_SET_KEEPCAPS")
        self._join_groups()
        os.setresgid(self.gid, self.gid, self.gid)
        os.setresuid(self.uid, self.uid, self.uid)

    def _join_groups(self) -> None:
        try:
            os.initgroups(self.name, self.gid)
        except OSError as error:
            what = f"cannot become user {self.name}"
            advice = "grant CAP_SETUID and CAP_SETGID, or start Deckwire as that user"
            raise OSError(error.errno, f"{what}: {error.strerror}; {advice}") from error

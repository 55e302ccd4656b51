"""Who owns a file that an output makes."""

from __future__ import annotations

import grp
import os
import pwd
import re
from dataclasses import dataclass

from deckwire.errors import shown
from deckwire.kernel.user import find_account

_NUMBER = re.compile(r"[0-9]{1,10}")
_LAST_ID = 2**32 - 2
"""The largest user or group id; the next one means "leave it", chown(2)."""
_LEAVE = -1
_MODE = re.compile(r"0?[0-7]{3}")


@dataclass(frozen=True, slots=True)
class Owner:
    """A user and a group by number, -1 to leave the group as it is."""

    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class Creation:
    """Owner and mode of files that an output makes. Files that are there stay as they are."""

    owner: Owner | None = None
    """None: the owner of the directory if root makes the file, else whoever makes it."""
    mode: int | None = None
    """None: 0640 without the bits of the umask."""

    def apply(self, fd: int, path: str) -> None:
        """Set owner and mode of a file that was just made; OSError if that is not allowed."""
        owner = self.owner
        if owner is None and os.geteuid() == 0:
            # A log that only root may write locks out the workers that share the directory.
            folder = os.stat(os.path.dirname(path) or ".")
            owner = Owner(folder.st_uid, folder.st_gid)
            if not _may_join(fd, folder.st_gid):
                owner = Owner(folder.st_uid, _LEAVE)
        if owner is not None:
            try:
                os.fchown(fd, owner.uid, owner.gid)
            except OSError as error:
                raise OSError(
                    error.errno,
                    f"it cannot belong to user {owner.uid}, group {owner.gid}:"
                    f" {error.strerror}; set another owner, or start Deckwire as root",
                    path,
                ) from error
        # After the owner: a change of owner clears bits.
        if self.mode is not None:
            os.fchmod(fd, self.mode)


def _may_join(fd: int, gid: int) -> bool:
    """Whether the file can get this group. A root without CAP_CHOWN may lack that right."""
    try:
        os.fchown(fd, _LEAVE, gid)
    except PermissionError:
        return False
    return True


def parse_owner(text: str) -> Owner:
    """The owner that ``USER`` or ``USER:GROUP`` names; without a group, the user's own.

    Raises ValueError with what is wrong if this host has no such user or group.
    """
    user, colon, group = text.partition(":")
    uid, own_group = _user(user)
    return Owner(uid, _group(group) if colon else own_group)


def parse_mode(text: str) -> int:
    """The mode of three octal digits; ValueError with what is wrong."""
    if not _MODE.fullmatch(text):
        raise ValueError(f"mode: {shown(text)} is no mode; use three octal digits, as in 0640")
    mode = int(text, 8)
    if mode & 0o600 != 0o600:
        raise ValueError(f"mode: {shown(text)} keeps the owner out; use 0600 or more, as in 0640")
    return mode


def _user(name: str) -> tuple[int, int]:
    """The ids of a user and of its group."""
    if _NUMBER.fullmatch(name):
        uid = _id(name)
        try:
            return uid, pwd.getpwuid(uid).pw_gid
        except KeyError:
            return uid, _LEAVE
    try:
        found = find_account(name)
    except ValueError as error:
        raise ValueError(f"owner: {error}") from None
    return found.pw_uid, found.pw_gid


def _group(name: str) -> int:
    if _NUMBER.fullmatch(name):
        return _id(name)
    try:
        return grp.getgrnam(name).gr_gid
    except (KeyError, ValueError):
        raise ValueError(
            f"owner: this host has no group {shown(name)}; make it, or name another"
        ) from None


def _id(text: str) -> int:
    number = int(text)
    if number > _LAST_ID:
        raise ValueError(f"owner: {shown(text)} is no id; use a number up to {_LAST_ID}")
    return number

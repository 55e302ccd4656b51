"""The key of the values that stand for credentials: read, or made once and kept."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from tempfile import mkstemp

from deckwire.config import Settings
from deckwire.errors import UsageError, plain
from deckwire.events.redaction import Redactor
from deckwire.limits import REDACT_KEY_BYTES, REDACT_KEY_FILE_BYTES

_NAME = "redact.key"


def open_redactor(settings: Settings, *, makes_key: bool = True) -> Redactor | None:
    """What replaces credentials; None if the settings want none replaced.

    Without a file for its key, the key holds until the process ends. `makes_key` says whether a key
    that is missing in the state directory is made there.

    Raises:
        UsageError: the file has no key.
        OSError: it cannot be read or made.
    """
    if not settings.redact:
        return None
    if settings.redact_key is not None:
        key = _read(settings.redact_key)
    elif settings.state_dir is not None and makes_key:
        key = _kept(os.path.join(settings.state_dir, _NAME))
    else:
        key = secrets.token_bytes(REDACT_KEY_BYTES)
    return Redactor(key, settings.redact)


def _kept(path: str) -> bytes:
    """The key in a file, which is made if it is missing."""
    try:
        return _read(path)
    except FileNotFoundError:
        pass
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    # Mode 0600, and a name that no other process has.
    fd, new = mkstemp(prefix=f".{_NAME}.", dir=os.path.dirname(path))
    try:
        with open(fd, "wb") as file:
            file.write(secrets.token_bytes(REDACT_KEY_BYTES))
            file.flush()
            os.fsync(fd)
        with suppress(FileExistsError):
            # Another agent was quicker: then its key counts.
            os.link(new, path)
    finally:
        os.unlink(new)
    return _read(path)


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        key = file.read(REDACT_KEY_FILE_BYTES + 1)
    if not REDACT_KEY_BYTES <= len(key) <= REDACT_KEY_FILE_BYTES:
        size = "shorter" if len(key) < REDACT_KEY_BYTES else "longer"
        raise UsageError(
            f"{plain(path)}: {size} than a key for redact can be; use a file of "
            f"{REDACT_KEY_BYTES} to {REDACT_KEY_FILE_BYTES} random bytes"
        )
    return key

"""The file with all that a loader which failed has printed, for who wants more than one line."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

NAME = "deckwire-loader.log"
LOG_BYTES = 1 << 24
"""The end that is kept: where the verifier gives up it says why in its last lines."""


def keep(printed: int) -> Path | None:
    """Copies the file open as `printed` to where it can be read: the newest in place of older ones.

    Returns:
        The path, in the directory for logs that systemd gives a service, else in that for
        temporary files; None if nothing was printed or the directory cannot be written.
    """
    size = os.fstat(printed).st_size
    if not size:
        return None
    import tempfile  # noqa: PLC0415 - every start would wait for it

    with contextlib.suppress(OSError):
        logs = os.environ.get("LOGS_DIRECTORY", "").split(":")[0]  # systemd.exec(5): a list
        path = Path(logs or tempfile.gettempdir()) / NAME
        # Renamed into place: of a link or a file that somebody else put there nothing is written.
        copy, name = tempfile.mkstemp(prefix=f"{NAME}-", dir=path.parent)
        try:
            at = max(0, size - LOG_BYTES)
            while sent := os.sendfile(copy, printed, at, size - at):
                at += sent
            os.replace(name, path)
        except OSError:
            os.unlink(name)
            raise
        finally:
            os.close(copy)
        return path
    return None

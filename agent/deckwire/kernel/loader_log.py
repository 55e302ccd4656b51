"""The file that keeps the whole output of a loader that failed."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

NAME = "deckwire-loader.log"
LOG_BYTES = 1 << 24
"""The kept end of the output: a verifier that gives up says why in its last lines."""


def keep(printed: int) -> Path | None:
    """Copies the file open as `printed` to a directory for logs, in place of an older copy.

    Returns:
        The path of the copy; None if nothing was printed or the directory cannot be written. The
        directory is the one that systemd gives a service for its logs, else that for temporary
        files.
    """
    size = os.fstat(printed).st_size
    if not size:
        return None
    import tempfile  # noqa: PLC0415 - every start would wait for it

    with contextlib.suppress(OSError):
        logs = os.environ.get("LOGS_DIRECTORY", "").split(":")[0]  # systemd.exec(5): a list
        path = Path(logs or tempfile.gettempdir()) / NAME
        # Renamed, so that a link or file that somebody else put at that path is not written to.
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

"""The token by which an HTTP receiver knows the agent, in a file of its own."""

from __future__ import annotations

from deckwire.errors import plain
from deckwire.output.sinks.failures import FileFaultError

_BYTES = 4_096
"""Of a longer file, the beginning counts."""


class TokenFile:
    """Reads the token anew for each connection, because it is renewed while the agent runs."""

    def __init__(self, path: str) -> None:
        """Raises OSError or ValueError for the user if the file holds no token now."""
        self._path = path
        self._token()

    def read(self) -> str:
        """The token in the file; FileFaultError if there is none."""
        try:
            return self._token()
        except OSError as error:
            raise FileFaultError(f"{plain(self._path)}: {error.strerror}") from None
        except ValueError as error:
            raise FileFaultError(str(error)) from None

    def _token(self) -> str:
        with open(self._path, "rb") as file:
            token = file.read(_BYTES).strip()
        if not token.isascii() or not token.decode("ascii").isprintable() or not token:
            raise ValueError(
                f"token_file: {plain(self._path)} holds no token; write one line of ASCII"
            )
        return token.decode("ascii")

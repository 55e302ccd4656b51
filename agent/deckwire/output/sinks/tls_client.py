"""Our side of a TLS connection to a receiver. Only outputs that need it import this module."""

from __future__ import annotations

import os
import socket
import ssl
from contextlib import suppress
from dataclasses import dataclass
from threading import Lock

from deckwire.output.sinks.failures import FileFaultError


@dataclass(frozen=True, slots=True)
class TlsSettings:
    """What the user set. Files are PEM."""

    ca: str = ""
    """Certificates that sign the receiver's; "" for the system's."""
    certificate: str = ""
    """Our certificate with its chain; "" for none."""
    key: str = ""
    """The key of our certificate; "" if it is in the same file."""
    name: str = ""
    """The name in the receiver's certificate; "" for the host of the output."""


_Stamp = tuple[int, int, int, int, int] | None
"""Device, inode, size and both times of change of a file; None if it cannot be asked for."""


class TlsClient:
    """Makes TLS connections: TLS 1.2 or newer, and the receiver's certificate is verified.

    Files that have changed are read again for the next connection: certificates are renewed while
    the agent runs. If the new ones are wrong, there is no connection until they are corrected. For
    any thread.
    """

    def __init__(self, settings: TlsSettings, host: str) -> None:
        """Read the files. Raises OSError that names the file."""
        self._settings = settings
        self._name = settings.name or host
        ours = [path for path in (settings.certificate, settings.key) if path]
        self._paths = [*ours, *([settings.ca] if settings.ca else _system_paths())]
        self._reading = Lock()
        self._stamps = self._stamps_now()
        self.context = _context(settings)

    def wrap(self, connected: socket.socket) -> TlsSocket:
        """Shake hands over a connected socket; raises OSError, with the socket closed."""
        return TlsSocket(self.handshake(connected))

    def handshake(self, connected: socket.socket) -> ssl.SSLSocket:
        """The same, for those who use TLS's own socket."""
        try:
            self.read_changed_files()
            return self.context.wrap_socket(connected, server_hostname=self._name)
        except ssl.SSLCertVerificationError as error:
            connected.close()
            raise ConnectionAbortedError(
                f"its certificate is refused: {error.verify_message}"
            ) from None
        except ssl.SSLError as error:
            connected.close()
            raise ConnectionAbortedError(f"TLS fails: {_reason(error)}") from None
        except OSError:
            connected.close()
            raise

    def read_changed_files(self) -> None:
        """Use what the files say now; FileFaultError, and no change, if one cannot be used."""
        with self._reading:
            stamps = self._stamps_now()
            if stamps == self._stamps:
                return
            try:
                self.context = _context(self._settings)
            except OSError as error:
                raise FileFaultError(f"{error.filename}: {error.strerror}") from None
            # What changes after the look is read again the next time.
            self._stamps = stamps

    def _stamps_now(self) -> list[_Stamp]:
        return [_stamp(path) for path in self._paths]


class TlsSocket:
    """The part of a socket that outputs use, over TLS. TLS's own errors become OSError's."""

    def __init__(self, connected: ssl.SSLSocket) -> None:
        self._socket = connected
        self.family = connected.family

    def fileno(self) -> int:
        """The descriptor of the TCP socket."""
        return self._socket.fileno()

    def settimeout(self, seconds: float) -> None:
        """Set how long one call may wait."""
        self._socket.settimeout(seconds)

    def getsockopt(self, level: int, name: int, length: int) -> bytes:
        """An option of the TCP socket."""
        return self._socket.getsockopt(level, name, length)

    def send(self, data: bytes | memoryview) -> int:
        """Send, and return how many bytes were taken."""
        try:
            return self._socket.send(data)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise BlockingIOError from None
        except ssl.SSLError as error:
            raise ConnectionAbortedError(f"TLS fails: {_reason(error)}") from None

    def sendall(self, data: bytes) -> None:
        """Send all of it."""
        view = memoryview(data)
        while view:
            view = view[self.send(view) :]

    def recv(self, size: int) -> bytes:
        """Receive what is there, without waiting; b"" if the peer has closed."""
        timeout = self._socket.gettimeout()
        self._socket.settimeout(0)
        try:
            return self._socket.recv(size)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise BlockingIOError from None
        except ssl.SSLEOFError:
            return b""
        except ssl.SSLError as error:
            raise ConnectionAbortedError(f"TLS fails: {_reason(error)}") from None
        finally:
            self._socket.settimeout(timeout)

    def shutdown(self, how: int) -> None:
        """Say that nothing more comes, and close our side of the TCP connection."""
        self._socket.settimeout(0)
        # It raises if the receiver has not answered. That is of no interest.
        with suppress(OSError, ValueError):
            self._socket.unwrap()
        self._socket.shutdown(how)

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()


def _stamp(path: str) -> _Stamp:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _system_paths() -> list[str]:
    """Where the system keeps the certificates that it trusts: a file, a directory, or both."""
    paths = ssl.get_default_verify_paths()
    return [path for path in (paths.cafile, paths.capath) if path]


def _context(settings: TlsSettings) -> ssl.SSLContext:
    """What the files say. Raises OSError that names the file."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if settings.ca:
        _load_certificates(context, settings.ca)
    else:
        context.load_default_certs()
    if settings.certificate:
        # load_cert_chain() does not say which of its two files is wrong.
        _load_certificates(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), settings.certificate)
        key = settings.key or settings.certificate
        try:
            context.load_cert_chain(settings.certificate, key, password=_no_password)
        except (OSError, ValueError) as error:
            raise _about(key, error) from None
    return context


def _load_certificates(context: ssl.SSLContext, path: str) -> None:
    try:
        context.load_verify_locations(path)
    except OSError as error:
        raise _about(path, error) from None


def _no_password() -> str:
    raise ValueError("the key has a password; use one without")


def _reason(error: ssl.SSLError) -> str:
    return (error.reason or str(error)).lower().replace("_", " ")


def _about(path: str, error: OSError | ValueError) -> OSError:
    if isinstance(error, ssl.SSLError):
        return OSError(0, f"holds no PEM that can be used: {_reason(error)}", path)
    if isinstance(error, OSError):
        return OSError(error.errno, error.strerror, path)
    return OSError(0, str(error), path)

"""Prepares what a capture needs before loading. It imports little, because a start waits for it."""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec

from deckwire.bus.address import BUS_OF_DECNET, decnet_socket
from deckwire.config import Settings
from deckwire.deckies import DeckiesFile
from deckwire.decnet_state import StateFile
from deckwire.errors import UsageError, plain
from deckwire.fingerprints import p0f_db
from deckwire.fingerprints.identity import Identifier
from deckwire.kernel.user import User
from deckwire.options import HEADS
from deckwire.output.formats import Headers
from deckwire.output.outputs import OutputSettings, make_outputs
from deckwire.output.sinks.fanout import Output
from deckwire.output.sinks.sink import Sink
from deckwire.runtime.bus import BusService

_NS = 1_000_000_000
_FLOWS_PER_SOURCE = 65_536
"""Connections of one source address: a quarter of the flows map."""
_HANDSHAKE_BURST_S = 2
_MIDSTREAM_BURST_S = 4


def kernel_settings(settings: Settings) -> Mapping[str, int]:
    """The members of struct settings."""
    # The seed is random, so that nobody outside can aim at a slot of a direct-mapped map.
    return {
        "seed": secrets.randbits(64),
        # Its table is made for it.
        "sequences": int(settings.sequences),
        **live_kernel_settings(settings),
    }


def live_kernel_settings(settings: Settings) -> Mapping[str, int]:
    """Those that may change at any time. A rate becomes the time that one sample costs."""
    budgets = settings.budgets
    syn_cost = _NS // budgets.syn_records_per_second
    midstream_cost = _NS // budgets.midstream_records_per_second
    handshake_cost = _NS // budgets.handshakes_per_second_per_source
    return {
        "syn_cost_ns": syn_cost,
        "syn_burst_ns": syn_cost * budgets.syn_burst,
        "handshake_cost_ns": handshake_cost,
        "handshake_burst_ns": _HANDSHAKE_BURST_S * _NS,
        "midstream_cost_ns": midstream_cost,
        "midstream_burst_ns": _MIDSTREAM_BURST_S * _NS,
        "flows_per_source": _FLOWS_PER_SOURCE,
        "dedup": int(settings.dedup_ttl > 0),
        "heads": sum(2 << HEADS.index(head) for head in settings.heads),
        "checksums": int(settings.checksums == "auto"),
    }


@contextmanager
def acting(user: User | None) -> Iterator[None]:
    """In the block, files are opened and made with the rights of `user`, if there is one.

    Raises:
        UsageError: this process cannot become that user, a file is closed to it, or what is
            imported later is not installed.
        ValueError, OSError: as the block.
    """
    later = imported_later()
    if user is None:
        yield
        return
    user.need_reachable()
    try:
        with user.acting():
            for path in later:
                with open(path, "rb"):
                    pass
            yield
    except (OSError, UsageError) as error:
        cause = error if isinstance(error, OSError) else error.__cause__
        if not isinstance(cause, PermissionError) or cause.filename is None:
            raise
        raise UsageError(
            f"{plain(os.fsdecode(cause.filename))}: {cause.strerror} for user {user.name}; "
            f"let {user.name} open it, or set another user"
        ) from error


def imported_later() -> tuple[str, ...]:
    """Files of what is imported only when it is needed, by the user that the agent is then.

    UsageError if it is not installed: that must not come out with the first certificate.
    """
    library = find_spec("cryptography")
    if library is None or library.origin is None:
        raise UsageError("the Python package cryptography is missing; see deckwire doctor")
    return sys.executable, __file__, library.origin


def open_outputs(
    settings: Settings, sinks: Mapping[OutputSettings, Sink] | None = None
) -> tuple[Output, ...]:
    """Make the outputs without starting them. `sinks` are open already, by their receiver.

    ValueError for settings that do not go together, OSError for a file that cannot be opened.
    """
    headers = Headers(settings.app_name, settings.sd_id, settings.procid)
    return make_outputs(settings.outputs, settings.format, headers, settings.state_dir, sinks or {})


def deckies_file(settings: Settings) -> DeckiesFile | None:
    """The file that names the deckies, not read yet; None if there is none."""
    if settings.deckies_file is None:
        return None
    kind = StateFile if settings.decnet_state else DeckiesFile
    return kind(settings.deckies_file, settings.deckies)


def open_bus(settings: Settings) -> BusService | None:
    """DECNET's bus, not started yet; None if it is off or not wanted."""
    path = settings.bus
    if path == BUS_OF_DECNET:
        path = decnet_socket(os.environ)
    return None if path is None else BusService(path)


def identifier(settings: Settings) -> Identifier:
    """Load the signatures; OSError or SignatureError for a file that cannot be used."""
    if settings.p0f_db is not None:
        return Identifier(p0f_db.load(settings.p0f_db))
    return Identifier(p0f_db.load_own())

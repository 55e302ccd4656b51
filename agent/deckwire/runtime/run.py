"""`deckwire run`: from settings to a running agent."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from deckwire.kernel import signals
from deckwire.kernel.loader_process import LoadError, start_loader
from deckwire.runtime.failures import failing

if TYPE_CHECKING:
    from deckwire.config import Settings


def run_live(read_settings: Callable[[], Settings]) -> int:
    """Capture until a signal; return the exit status.

    Args:
        read_settings: called while the loader starts, because a start waits for that; and again
            in another thread at each reload.

    Raises:
        UsageError: the settings cannot work on this host; nothing stays attached.
    """
    requests = signals.arm()
    with failing():
        with start_loader(compiles=True) as loader:
            # The loader prepares the compiler meanwhile, and loads nothing before `begin`.
            settings = read_settings()
            from deckwire.kernel.loading import LoadRequest, begin, detach, finish  # noqa: PLC0415
            from deckwire.output.sinks.fanout import Fanout  # noqa: PLC0415
            from deckwire.runtime.preparation import (  # noqa: PLC0415
                acting,
                deckies_file,
                identifier,
                kernel_settings,
                open_bus,
                open_outputs,
            )
            from deckwire.runtime.redact_key import open_redactor  # noqa: PLC0415

            registry = settings.deckies
            file = deckies_file(settings)
            # What is opened again later must open for the user that the agent will be then.
            with acting(settings.user):
                if file is not None:
                    registry = file.read()
                identify = identifier(settings)
                outputs = Fanout(open_outputs(settings))
                redactor = open_redactor(settings)
            bus = open_bus(settings)
            request = LoadRequest(
                interfaces=settings.interfaces,
                netns=settings.netns,
                wait=settings.wait_interface,
                xdp=settings.xdp,
                settings=kernel_settings(settings),
                ring_bytes=settings.ring_kb * 1024,
            )
            if requests.stopping:
                return 0
            begin(loader, request)
            # These imports run while the loader works, because they take a tenth of a second.
            from deckwire.clock import KernelClock  # noqa: PLC0415
            from deckwire.kernel.heap import give_back  # noqa: PLC0415
            from deckwire.runtime.agent import Agent  # noqa: PLC0415
            from deckwire.runtime.assembly import (  # noqa: PLC0415
                assemble,
                expect_echoes,
                watch_own_host,
            )
            from deckwire.runtime.privileges import give_up  # noqa: PLC0415

            give_back()
            # Wait even if a signal came, because a loader that ends while attaching leaves filters.
            if not requests.wait(loader.fileno(), loader.seconds_left()):
                return 0
            loaded = finish(loader, request)
        try:
            expect_echoes(loaded)
            clock = KernelClock()
            parts = assemble(
                *(settings, loaded, registry, clock, outputs, identify),
                bus=bus,
                redactor=redactor,
            )
            # A reload replaces it: then nothing is to keep this one in memory.
            del registry
            own_host = watch_own_host(settings, loaded, parts)
            give_up(loaded, settings.user)
        except BaseException:
            # Links end with this process, filters do not.
            with suppress(LoadError, OSError):
                detach(loaded)
            raise
    outputs.start()
    if bus is not None:
        bus.start()
    return Agent(settings, loaded, parts, clock, file, requests, bus, own_host, read_settings).run()

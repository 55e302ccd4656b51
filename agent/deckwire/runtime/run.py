"""`deckwire run`: from settings to a running agent."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from deckwire.kernel import signals
from deckwire.kernel.loader_process import start_loader
from deckwire.runtime.failures import failing

if TYPE_CHECKING:
    from deckwire.config import Settings


def run_live(read_settings: Callable[[], Settings]) -> int:
    """Capture until a signal; return the exit status.

    Args:
        read_settings: called while the loader starts, because a start waits for that.

    Raises:
        UsageError: the settings cannot work on this host; nothing stays attached.
    """
    requests = signals.arm()
    with failing(), start_loader(compiles=True) as loader:
        # The loader prepares the compiler meanwhile, and loads nothing before `begin`.
        settings = read_settings()
        from deckwire.kernel.loading import LoadRequest, begin, finish  # noqa: PLC0415
        from deckwire.output.sinks.fanout import Fanout  # noqa: PLC0415
        from deckwire.runtime.preparation import (  # noqa: PLC0415
            deckies_file,
            identifier,
            kernel_settings,
            open_bus,
            open_outputs,
            table_sizes,
        )

        registry = settings.deckies
        file = deckies_file(settings)
        if file is not None:
            registry = file.read()
        identify = identifier(settings)
        outputs = Fanout(open_outputs(settings))
        bus = open_bus(settings)
        request = LoadRequest(
            interfaces=settings.interfaces,
            netns=settings.netns,
            wait=settings.wait_interface,
            xdp=settings.xdp,
            settings=kernel_settings(settings),
            table_sizes=table_sizes(settings),
        )
        if requests.stopping:
            return 0
        begin(loader, request)
        # These imports run while it compiles, because they take a tenth of a second.
        from deckwire.clock import KernelClock  # noqa: PLC0415
        from deckwire.kernel.heap import give_back  # noqa: PLC0415
        from deckwire.runtime.agent import Agent  # noqa: PLC0415
        from deckwire.runtime.assembly import (  # noqa: PLC0415
            assemble,
            expect_echoes,
            watch_own_host,
        )

        give_back()
        # Wait even if a signal came, because a loader that ends while attaching leaves filters.
        if not requests.wait(loader.fileno(), loader.seconds_left()):
            return 0
        loaded = finish(loader, request)
        expect_echoes(loaded)
        clock = KernelClock()
        parts = assemble(settings, loaded, registry, clock, outputs, identify, bus=bus)
        own_host = watch_own_host(settings, loaded, parts)
    outputs.start()
    if bus is not None:
        bus.start()
    return Agent(settings, loaded, parts, clock, file, requests, bus, own_host).run()

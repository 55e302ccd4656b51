"""`deckwire run`: from settings to a running agent."""

from __future__ import annotations

from deckwire.agent import Agent
from deckwire.assembly import (
    assemble,
    expect_echoes,
    identifier,
    kernel_settings,
    open_outputs,
)
from deckwire.clock import KernelClock
from deckwire.config import Settings
from deckwire.deckies import DeckiesFile
from deckwire.failures import failing
from deckwire.kernel.loading import LoadRequest, load


def run_live(settings: Settings) -> int:
    """Capture until a signal; the exit status.

    Raises:
        UsageError: the settings cannot work on this host; nothing stays attached.
    """
    deckies_file = None
    registry = settings.deckies
    if settings.deckies_file is not None:
        deckies_file = DeckiesFile(settings.deckies_file, settings.deckies)
        registry = deckies_file.read()
    with failing():
        identify = identifier(settings)
        outputs = open_outputs(settings)
        loaded = load(
            LoadRequest(
                interfaces=settings.interfaces,
                netns=settings.netns,
                xdp=settings.xdp,
                settings=kernel_settings(settings),
            )
        )
        expect_echoes(loaded)
        clock = KernelClock()
        parts = assemble(settings, loaded, registry, clock, outputs, identify)
    outputs.start()
    return Agent(settings, loaded, parts, clock, deckies_file).run()

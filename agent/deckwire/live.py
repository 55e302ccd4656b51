"""`deckwire run`: from settings to a running agent."""

from __future__ import annotations

from deckwire.config import Settings
from deckwire.deckies import DeckiesFile
from deckwire.failures import failing
from deckwire.kernel.loading import LoadRequest, start_loader


def run_live(settings: Settings) -> int:
    """Capture until a signal; the exit status.

    Raises:
        UsageError: the settings cannot work on this host; nothing stays attached.
        DeckiesError: the deckies file cannot be used; the same.
    """
    deckies_file = None
    registry = settings.deckies
    with failing(), start_loader() as loader:
        # Its interpreter starts beside this; it loads nothing before it is asked to.
        from deckwire.preparation import (  # noqa: PLC0415
            identifier,
            kernel_settings,
            open_outputs,
        )

        if settings.deckies_file is not None:
            deckies_file = DeckiesFile(settings.deckies_file, settings.deckies)
            registry = deckies_file.read()
        identify = identifier(settings)
        outputs = open_outputs(settings)
        loader.begin(
            LoadRequest(
                interfaces=settings.interfaces,
                netns=settings.netns,
                xdp=settings.xdp,
                settings=kernel_settings(settings),
            )
        )
        # While it compiles: parsers and cryptography take a tenth of a second to import.
        from deckwire.agent import Agent  # noqa: PLC0415
        from deckwire.assembly import assemble, expect_echoes  # noqa: PLC0415
        from deckwire.clock import KernelClock  # noqa: PLC0415

        loaded = loader.finish()
        expect_echoes(loaded)
        clock = KernelClock()
        parts = assemble(settings, loaded, registry, clock, outputs, identify)
    outputs.start()
    return Agent(settings, loaded, parts, clock, deckies_file).run()

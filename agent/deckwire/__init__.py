"""Deckwire: in-kernel capture for fleets of decoys on MACVLAN networks."""

from deckwire import compiled

__version__ = "0.1.0"

compiled.install()

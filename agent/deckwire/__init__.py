"""Deckwire: in-kernel capture for fleets of decoys on MACVLAN networks."""

__version__ = "0.1.0"

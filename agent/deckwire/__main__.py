"""Run by `python -m deckwire`."""

from deckwire.entry import main

main()

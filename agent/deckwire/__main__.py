"""`python -m deckwire`."""

from deckwire.cli import main

main()

"""Starts, runs and ends `deckwire run` and `deckwire replay`.

This package assembles all others. It owns the loop, the signals and the reports about the agent
itself. Only the command line imports it.
"""

"""Typed views of the BPF maps: deckies, flows, half-open connections, suppression, counters.

This package knows how an entry is found and changed. It does not decide when one ends or what is
emitted.
"""

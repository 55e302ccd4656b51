"""DECNET's bus: frames, topics and messages, as pure functions.

This package knows the wire and the words of the bus. It knows no socket, no event and no clock.
"""

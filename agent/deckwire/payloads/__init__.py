"""Protocols recognised by the first bytes of a connection, as pure functions and one table of them.

This package knows the bytes of both ends. It knows no port, no sample, no event and no clock.
"""

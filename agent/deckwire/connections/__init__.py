"""The connections that are being followed: their TLS, and whether a scan made them.

This room knows the state of one connection and the bounded tables of them. It makes observations,
not events.
"""

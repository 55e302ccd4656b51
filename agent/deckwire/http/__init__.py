"""HTTP/1 in the clear (RFC 9112): requests and answers, as pure functions.

This package knows the bytes of one direction. It knows no sample, no event and no clock.
"""

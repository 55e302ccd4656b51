"""SSH before it is encrypted (RFC 4253): banners and KEXINIT messages, as pure functions.

This package knows the bytes of one direction. It knows no sample, no event and no clock.
"""

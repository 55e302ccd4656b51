"""Scans: what each source has probed, from the kernel's records of it.

This room knows the scans under way, in bounded tables, and when something is to be reported of one.
It makes no events, reads no map and no file.
"""

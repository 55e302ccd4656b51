"""Turns samples in order into events, for live traffic and for captures alike.

This package knows what a sample means and when an event is due. It knows no ring and no output,
and only the clock that it is given.
"""

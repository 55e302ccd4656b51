"""What keeps the loader from its work."""

from __future__ import annotations


class LoaderError(Exception):
    """One line for the user: what, where, what to do."""

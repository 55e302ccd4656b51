"""What is known of who scans: its tool and its system."""

from __future__ import annotations

from typing import NamedTuple


class Author(NamedTuple):
    """The sender of probes, as its SYN packets and connections show it. Empty text is unknown."""

    tool: str = ""
    evidence: str = ""
    """The traits that show the tool."""
    os: str = ""
    ja4t: str = ""

    def joined(self, later: Author) -> Author:
        """What both say; the first word of each counts.

        Of two SYN packets, the one that names a tool also gives the fingerprint: a tool may send
        its probes in addition to what its host's kernel sends.
        """
        named = later if later.tool and not self.tool else self
        return Author(
            named.tool,
            named.evidence,
            self.os or later.os,
            named.ja4t or self.ja4t or later.ja4t,
        )


NOBODY = Author()

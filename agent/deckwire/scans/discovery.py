"""nmap's default host discovery: four probes that no other program sends together.

nmap book, "Host Discovery": an echo request, a SYN to port 443, an ACK to port 80 and a timestamp
request. nmap sends them to hosts behind a router, and with ``--disable-arp-ping`` to neighbours.
"""

from __future__ import annotations

from deckwire.abi.sources import ProbeKind
from deckwire.fingerprints.scanners import Tool
from deckwire.scans.scan import Scan

_TCP = 6
_NEEDED = frozenset({ProbeKind.ICMP_ECHO, ProbeKind.ICMP_TIMESTAMP, ProbeKind.SYN, ProbeKind.ACK})
_FOUND = Tool(
    "nmap", "host discovery; echo request; timestamp request; SYN to port 443; ACK to port 80"
)


def discovery(scan: Scan) -> Tool | None:
    """nmap, if the scan has all four probes to one decky."""
    if not scan.has(_NEEDED):
        return None
    seen: dict[bytes, set[ProbeKind]] = {}
    for (decky, protocol, port), kinds, _ in scan.targets():
        found = seen.setdefault(decky, set())
        if protocol == _TCP and port == 443 and kinds >> ProbeKind.SYN & 1:
            found.add(ProbeKind.SYN)
        elif protocol == _TCP and port == 80 and kinds >> ProbeKind.ACK & 1:
            found.add(ProbeKind.ACK)
        elif protocol != _TCP:
            found |= {kind for kind in _NEEDED if kinds >> kind & 1}
    return _FOUND if any(found >= _NEEDED for found in seen.values()) else None

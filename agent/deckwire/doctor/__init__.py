"""`deckwire doctor`: what `deckwire run` needs, and whether this host has it."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console
from rich.text import Text

from deckwire.deckies import Registry
from deckwire.doctor.finding import Finding
from deckwire.doctor.host import examine_kernel, examine_privileges
from deckwire.doctor.interface import examine_interface
from deckwire.doctor.software import examine_software, try_loading

_STYLES = {"ok": "green", "missing": "bold red", "note": "yellow"}


def doctor(interface: str | None, netns: str | None, registry: Registry | None = None) -> int:
    """Prints a line for each finding: ``STATE SUBJECT TEXT``, then ``; ADVICE`` if there is any.

    Args:
        interface: is examined too.
        netns: the network namespace of `interface`, a path or a name in /run/netns.
        registry: the deckies on that interface; their addresses are examined too.

    Returns:
        0 if `run` can work, 1 if something is missing.
    """
    # Lines are not wrapped: a terminal does that itself, and grep finds whole lines.
    console = Console(highlight=False, soft_wrap=True)
    missing = []
    for finding in _findings(interface, netns, registry):
        advice = f"; {finding.advice}" if finding.advice else ""
        console.print(
            Text.assemble(
                (f"{finding.state:8}", _STYLES[finding.state]),
                f"{finding.subject:14}{finding.text}",
                (advice, "bold"),
            )
        )
        if finding.state == "missing":
            missing.append(finding.subject)
    if missing:
        console.print(Text(f"deckwire run cannot work here: {', '.join(missing)}"))
        return 1
    return 0


def _findings(
    interface: str | None, netns: str | None, registry: Registry | None
) -> Iterator[Finding]:
    yield from examine_kernel()
    yield from examine_privileges(netns)
    yield from examine_software()
    if interface is not None:
        yield from examine_interface(interface, netns, registry)
    yield from try_loading()

"""The interface to watch: what it is, where the programs would go, what could be in the way.

Nothing is attached to it, not even for a moment.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from deckwire.doctor.finding import Finding
from deckwire.doctor.netdev import XDP_BASIC, xdp_features
from deckwire.kernel import rtnetlink
from deckwire.kernel.macvlans import ADVICE, IPVLANS, MACVLANS, Search
from deckwire.kernel.rtnetlink import Interface
from deckwire.kernel.syscalls import enter_network_namespace

_IFF_UP = 0x1
_MODES = {1: "private", 2: "vepa", 4: "bridge", 8: "passthru", 16: "source"}
"""MACVLAN_MODE_ of <linux/if_link.h>."""
_NAMES_TOLD = 20


def examine_interface(name: str, netns: str | None) -> Iterator[Finding]:
    """The findings on one interface of this or another network namespace."""
    try:
        with _inside(netns):
            yield from list(_examine(name))
    except FileNotFoundError:
        yield Finding(
            "missing", "netns", f"there is no network namespace {netns}", "see ip netns list"
        )
    except OSError as error:
        yield Finding("missing", "netns", f"{netns or 'own'}: {error.strerror or error}")


def _examine(name: str) -> Iterator[Finding]:
    with rtnetlink.open_socket() as channel:
        present = rtnetlink.list_interfaces(channel)
    interface = next((entry for entry in present if entry.name == name), None)
    if interface is None:
        names = ", ".join(sorted(entry.name for entry in present)[:_NAMES_TOLD])
        yield Finding("missing", "interface", f"there is no {name}", f"there are: {names}")
        return
    target, finding = _target(interface, present)
    yield finding
    if target is None:
        return
    if target.flags & _IFF_UP:
        yield Finding("ok", "link", f"{target.name} is up")
    else:
        yield Finding("note", "link", f"{target.name} is down", f"ip link set {target.name} up")
    yield _elsewhere(target)
    yield _xdp(target)
    if f"@deckwire-{target.ifindex}" in _unix_sockets():
        yield Finding(
            "note",
            "agent",
            f"an agent watches {target.name} already",
            "stop it before starting another",
        )


def _target(interface: Interface, present: list[Interface]) -> tuple[Interface | None, Finding]:
    """Where the programs would go, None if they cannot."""
    if refusal := _refusal(interface, present):
        return None, Finding("missing", "interface", *refusal)
    name, kind = interface.name, interface.kind
    if kind in MACVLANS:
        return _parent(interface, present)
    what = f"a {kind}" if kind else "hardware"
    macvlans = [entry.name for entry in _on(interface, present) if entry.kind in MACVLANS]
    if macvlans:
        told = ", ".join(macvlans[:_NAMES_TOLD])
        return interface, Finding("ok", "interface", f"{name} is {what}, parent of {told}")
    return interface, Finding(
        "ok",
        "interface",
        f"{name} is {what}; macvlans on it, if any, are in other network namespaces",
    )


def _refusal(interface: Interface, present: list[Interface]) -> tuple[str, str] | None:
    """Why it cannot be watched, and what can be; None if nothing speaks against it."""
    name, kind = interface.name, interface.kind
    if interface.flags & rtnetlink.IFF_LOOPBACK:
        return f"{name} is the loopback, which no decoy is on", "name the parent of the MACVLAN"
    if kind in IPVLANS:
        return f"{name} is an {kind}", "only macvlan networks are supported"
    if any(entry.kind in IPVLANS for entry in _on(interface, present)):
        return f"{name} is the parent of an ipvlan", "only macvlan networks are supported"
    if interface.hardware != rtnetlink.ARPHRD_ETHER:
        return f"{name} is no Ethernet interface", "name the parent of the MACVLAN"
    return None


def _parent(interface: Interface, present: list[Interface]) -> tuple[Interface | None, Finding]:
    mode = _MODES.get(interface.macvlan_mode or 0, "unknown")
    if interface.parent_nsid is None:
        for entry in present:
            if entry.ifindex == interface.parent:
                return entry, Finding(
                    "ok",
                    "interface",
                    f"{interface.name} is a {interface.kind} in {mode} mode, its parent "
                    f"{entry.name} is watched",
                )
    return None, Finding(
        "missing",
        "interface",
        f"the parent of {interface.kind} {interface.name} is in another network namespace",
        "name that parent and give its namespace with --netns",
    )


def _on(parent: Interface, present: list[Interface]) -> list[Interface]:
    return [
        entry for entry in present if entry.parent == parent.ifindex and entry.parent_nsid is None
    ]


def _elsewhere(target: Interface) -> Finding:
    """What a search of all network namespaces finds on it, and where it could not look."""
    search = Search((target.ifindex,))
    ipvlan = next((entry.name for entry in search.found if entry.kind in IPVLANS), None)
    if ipvlan is not None:
        return Finding(
            "missing",
            "namespaces",
            f"{target.name} is the parent of the ipvlan {ipvlan} in another network namespace",
            "only macvlan networks are supported",
        )
    if search.gaps is not None:
        return Finding("note", "namespaces", search.gaps, ADVICE)
    vepa = sum(entry.macvlan_mode == rtnetlink.MACVLAN_MODE_VEPA for entry in search.found)
    return Finding(
        "ok",
        "namespaces",
        f"{search.searched} searched, {len(search.found)} macvlans on {target.name}, "
        f"{vepa} in VEPA mode",
    )


def _xdp(target: Interface) -> Finding:
    features = xdp_features(target.ifindex)
    if features is None:
        can = "what its driver can do the kernel tells since Linux 6.3 only"
    elif features & XDP_BASIC:
        can = "its driver has native XDP"
    else:
        can = "its driver has generic XDP only"
    return Finding("ok", "xdp", f"not used, TC keeps offloads working; {target.name}: {can}")


def _unix_sockets() -> set[str]:
    """Names of the Unix sockets of this namespace; an agent keeps one for each interface."""
    lines = Path("/proc/thread-self/net/unix").read_text(errors="replace").splitlines()
    return {line.split()[-1] for line in lines}


@contextlib.contextmanager
def _inside(netns: str | None) -> Iterator[None]:
    """The calling thread in the network namespace of this name."""
    if netns is None:
        yield
        return
    path = netns if "/" in netns else f"/run/netns/{netns}"
    with open("/proc/thread-self/ns/net", "rb") as own, open(path, "rb") as namespace:
        enter_network_namespace(namespace.fileno())
        try:
            yield
        finally:
            enter_network_namespace(own.fileno())

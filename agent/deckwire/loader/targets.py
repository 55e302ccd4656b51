"""Where the programs go: the user's interfaces, resolved to what carries the deckies' traffic."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from deckwire.kernel import rtnetlink
from deckwire.kernel.macvlans import ADVICE, IPVLANS, MACVLANS, Search
from deckwire.kernel.rtnetlink import Interface
from deckwire.kernel.syscalls import enter_network_namespace
from deckwire.loader.errors import LoaderError


class AbsentError(LoaderError):
    """No interface has this name."""


class Target:
    """Where the programs go, resolved from one or more interfaces of the user's."""

    # No dataclass: to import those takes 8 ms, and each start waits for it.
    def __init__(self, interface: str, name: str, ifindex: int) -> None:
        self.interface = interface
        self.name = name
        self.ifindex = ifindex
        self.vepa = False
        self.notes: list[str] = []


def enter(netns: str, path: str, *, passing: bool) -> None:
    """Moves this process into a network namespace.

    Args:
        netns: what the user called it.
        path: of the file that stands for it.
        passing: the user expects it to come if it is not there.
    """
    try:
        with open(path, "rb") as namespace:
            enter_network_namespace(namespace.fileno())
    except FileNotFoundError as error:
        line = f"no network namespace {netns}: {path} does not exist"
        raise LoaderError(line, passing=passing) from error
    except PermissionError as error:
        raise LoaderError(
            f"cannot enter the network namespace {netns}: CAP_SYS_ADMIN missing"
        ) from error
    except OSError as error:
        # Also for a moment while it is being made.
        raise LoaderError(f"{netns} is no network namespace", passing=passing) from error


def resolve(names: Sequence[str], absent: dict[str, str] | None = None) -> list[Target]:
    """The interfaces that the programs go on, each once.

    Args:
        absent: gets the names that no interface has, each with a line for the user; None: such a
            name is an error.
    """
    if not names:
        return []
    with rtnetlink.open_socket() as channel:
        present = rtnetlink.list_interfaces(channel)
    targets: dict[int, Target] = {}
    for name in names:
        try:
            interface = _by_name(present, name)
        except AbsentError as error:
            if absent is None:
                raise
            absent[name] = str(error)
            continue
        target = _parent(present, interface)
        known = targets.get(target.ifindex)
        if known is None:
            known = Target(name, target.name, target.ifindex)
            targets[target.ifindex] = known
        if target is not interface:
            known.notes.append(f"{interface.kind} {name} -> parent {target.name}")
        elif interface.kind in MACVLANS:
            known.notes.append(
                f"the parent of {interface.kind} {name} is in another network namespace: "
                f"attached to {name} itself, which carries its own traffic alone"
            )
    if targets:
        _survey(targets)
    return list(targets.values())


def _by_name(present: Iterable[Interface], name: str) -> Interface:
    for interface in present:
        if interface.name == name:
            return interface
    names = ", ".join(sorted(interface.name for interface in present)[:20])
    raise AbsentError(f"no interface {name} in this network namespace (there are: {names})")


def _parent(present: Iterable[Interface], interface: Interface) -> Interface:
    """What to attach to for `interface`: a macvlan's parent where it can be seen, else itself."""
    name = interface.name
    if interface.flags & rtnetlink.IFF_LOOPBACK:
        raise LoaderError(f"{name} is the loopback: no decoy's traffic passes it")
    if interface.kind in IPVLANS:
        raise LoaderError(f"{name} is an {interface.kind}: only macvlan networks are supported")
    if interface.hardware != rtnetlink.ARPHRD_ETHER:
        raise LoaderError(f"{name} is no Ethernet interface (ARPHRD {interface.hardware})")
    if interface.kind in MACVLANS and interface.parent_nsid is None:
        for candidate in present:
            if candidate.ifindex == interface.parent:
                return candidate
    return interface


def _survey(targets: Mapping[int, Target]) -> None:
    """Looks at what stands on the targets, in every namespace: VEPA mode, ipvlan."""
    search = Search(targets)
    for interface in search.found:
        target = targets[interface.parent or 0]
        if interface.kind in IPVLANS:
            raise LoaderError(
                f"{target.name} is the parent of {interface.kind} {interface.name}: only "
                "macvlan networks are supported"
            )
        if interface.macvlan_mode == rtnetlink.MACVLAN_MODE_VEPA and not target.vepa:
            target.vepa = True
            target.notes.append(f"{target.name} carries a macvlan in VEPA mode")
    if search.gaps is not None:
        # It is the same for all of them, and said once.
        next(iter(targets.values())).notes.append(f"{search.gaps}; {ADVICE}")

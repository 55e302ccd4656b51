"""The interfaces that get the programs, chosen for those that the user named.

`run` and `doctor` both choose by resolve(), so they give the same verdict.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from deckwire.errors import plain
from deckwire.kernel import namespaces, rtnetlink
from deckwire.kernel.macvlans import ADVICE, IPVLANS, MACVLANS, Search
from deckwire.kernel.rtnetlink import Interface
from deckwire.loader.errors import LoaderError

_NAMES_LISTED = 20
_NAME_PARENT = "name the parent of the MACVLAN"


class AbsentError(LoaderError):
    """No interface has this name."""


class Target:
    """An interface that gets the programs, for one or more interfaces that the user named."""

    # No dataclass: importing those takes 8 ms, and each start waits for it.
    def __init__(self, named: Interface, carrier: Interface) -> None:
        self.named = named
        """The first interface that led here."""
        self.carrier = carrier
        """The interface that gets the programs: the same, or a macvlan's parent."""
        self.macvlans: list[Interface] = []
        """Macvlans on it, in all network namespaces that could be searched."""
        self.notes: list[str] = []
        """Lines for the user."""

    @property
    def ifindex(self) -> int:
        """Of the carrier."""
        return self.carrier.ifindex

    @property
    def name(self) -> str:
        """Of the carrier."""
        return self.carrier.name

    @property
    def vepa(self) -> bool:
        """A macvlan on it is in VEPA mode, so lateral frames pass it twice."""
        return any(one.macvlan_mode == rtnetlink.MACVLAN_MODE_VEPA for one in self.macvlans)

    @property
    def sees_one_decky(self) -> bool:
        """It is a macvlan, because its parent is in another network namespace."""
        return self.carrier.kind in MACVLANS


class Resolution(NamedTuple):
    """What resolve() chose."""

    targets: list[Target]
    """Each interface once."""
    absent: dict[str, str]
    """The names that no interface has, each with a line for the user."""
    searched: int
    """Network namespaces that were searched for macvlans on the targets."""
    gaps: str | None
    """One line about namespaces that could not be searched; None if there are none."""


def enter_namespace(netns: str, *, passing: bool = False) -> None:
    """Moves the calling thread into a network namespace.

    Args:
        netns: a path, or a name in /run/netns.
        passing: the user expects a namespace that does not exist yet.

    Raises:
        LoaderError: it cannot be entered.
    """
    path = namespaces.path_of(netns)
    try:
        with open(path, "rb") as namespace:
            namespaces.enter(namespace.fileno())
    except OSError as error:
        raise namespace_refusal(netns, error, passing=passing) from error


def namespace_refusal(netns: str, error: OSError, *, passing: bool = False) -> LoaderError:
    """The reason why a network namespace could not be entered, for the user."""
    name, path = plain(netns), plain(namespaces.path_of(netns))
    if isinstance(error, FileNotFoundError):
        line = f"no network namespace {name}: {path} does not exist; see ip netns list"
        return LoaderError(line, passing=passing)
    if isinstance(error, PermissionError):
        return LoaderError(
            f"cannot enter the network namespace {name}: CAP_SYS_ADMIN is missing; "
            "run as root or grant it"
        )
    # The kernel refuses a file that is no namespace. It is one for a moment while a namespace is
    # being made.
    return LoaderError(
        f"{name} is no network namespace: {error.strerror or error}; see ip netns list",
        passing=passing,
    )


def resolve(names: Sequence[str], *, wait: bool = False, elsewhere: bool = True) -> Resolution:
    """Chooses the interfaces that get the programs, and searches for macvlans on them.

    Args:
        names: interfaces of the calling thread's network namespace. For a macvlan its parent is
            chosen, if it is in this namespace too.
        wait: a name that no interface has is no error.
        elsewhere: other network namespaces are searched for macvlans too.

    Raises:
        LoaderError: an interface cannot be watched.
        OSError: the kernel does not list the interfaces of this namespace.
    """
    if not names:
        return Resolution([], {}, 0, None)
    with rtnetlink.open_socket() as channel:
        present = rtnetlink.list_interfaces(channel)
    targets: dict[int, Target] = {}
    absent: dict[str, str] = {}
    for name in names:
        try:
            named = _by_name(present, name)
        except AbsentError as error:
            if not wait:
                raise
            absent[name] = str(error)
            continue
        carrier = _carrier(present, named)
        target = targets.setdefault(carrier.ifindex, Target(named, carrier))
        if carrier is not named:
            target.notes.append(f"{named.kind} {name} -> parent {carrier.name}")
        elif target.sees_one_decky:
            target.notes.append(describe_partial_view(named))
    if not targets:
        return Resolution([], absent, 0, None)
    search = _survey(targets, elsewhere=elsewhere)
    return Resolution(list(targets.values()), absent, search.searched, search.gaps)


def describe_partial_view(macvlan: Interface) -> str:
    """A line for the user about a macvlan whose parent cannot be watched from its namespace."""
    return (
        f"the parent of {macvlan.kind} {macvlan.name} is in another network namespace: "
        f"the programs on {macvlan.name} see its own traffic alone; "
        "to watch all of the MACVLAN, name the parent and its --netns"
    )


def _by_name(present: Sequence[Interface], name: str) -> Interface:
    for interface in present:
        if interface.name == name:
            return interface
    names = ", ".join(sorted(plain(interface.name) for interface in present)[:_NAMES_LISTED])
    raise AbsentError(f"no interface {plain(name)} in this network namespace (there are: {names})")


def _carrier(present: Sequence[Interface], named: Interface) -> Interface:
    """What to attach to for `named`: a macvlan's parent if it is in this namespace, else itself."""
    name = named.name
    if named.flags & rtnetlink.IFF_LOOPBACK:
        raise LoaderError(f"{name} is the loopback: no decoy's traffic passes it; {_NAME_PARENT}")
    if named.kind in IPVLANS:
        raise LoaderError(
            f"{name} is an {named.kind}: only macvlan networks are supported; {_NAME_PARENT}"
        )
    if named.hardware != rtnetlink.ARPHRD_ETHER:
        raise LoaderError(
            f"{name} is no Ethernet interface (ARPHRD {named.hardware}): "
            f"it cannot carry a MACVLAN; {_NAME_PARENT}"
        )
    if named.kind in MACVLANS and named.parent_nsid is None:
        for candidate in present:
            if candidate.ifindex == named.parent:
                return candidate
    return named


def _survey(targets: dict[int, Target], *, elsewhere: bool) -> Search:
    """Looks at the interfaces on the targets, in every namespace: macvlans, VEPA mode, ipvlans."""
    search = Search(targets, elsewhere=elsewhere)
    for interface in search.found:
        target = targets[interface.parent or 0]
        if interface.kind in IPVLANS:
            raise LoaderError(
                f"{target.name} is the parent of {interface.kind} {interface.name}: only macvlan "
                "networks are supported; make its decoys' interfaces macvlans"
            )
        target.macvlans.append(interface)
    for target in targets.values():
        if target.vepa:
            target.notes.append(f"{target.name} carries a macvlan in VEPA mode")
    if search.gaps is not None:
        # The same for all targets, so it is said once.
        next(iter(targets.values())).notes.append(f"{search.gaps}; {ADVICE}")
    return search

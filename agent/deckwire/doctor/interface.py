"""The interface to watch: what it is, and which interface would get the programs.

Nothing is attached to it, not even for a moment. The loader's resolve() decides, as it does for
`run`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from deckwire.deckies import Registry
from deckwire.doctor.addresses import examine_addresses
from deckwire.doctor.finding import Finding
from deckwire.doctor.netdev import XDP_BASIC, xdp_features
from deckwire.kernel import namespaces, rtnetlink
from deckwire.kernel.macvlans import ADVICE
from deckwire.kernel.rtnetlink import Interface
from deckwire.loader import lock
from deckwire.loader.errors import LoaderError
from deckwire.loader.targets import (
    Resolution,
    Target,
    describe_partial_view,
    namespace_refusal,
    resolve,
)

_NAMES_LISTED = 20


def examine_interface(
    name: str, netns: str | None, registry: Registry | None = None
) -> list[Finding]:
    """The findings on one interface of this or another network namespace.

    `registry` are the deckies to watch; without it, their addresses are not examined.
    """
    with contextlib.ExitStack() as stack:
        if netns is not None:
            try:
                stack.enter_context(namespaces.inside(netns))
            except OSError as error:
                return [Finding("missing", "netns", str(namespace_refusal(netns, error)))]
        try:
            resolution = resolve([name])
        except LoaderError as error:
            return [Finding("missing", "interface", str(error))]
        except OSError as error:
            return [Finding("missing", "interface", f"cannot list interfaces: {error}")]
        (target,) = resolution.targets
        return [
            _describe(target),
            _namespaces(target, resolution),
            *(examine_addresses(target.carrier.ifindex, registry) if registry else ()),
            *_state(target.carrier),
        ]


def _describe(target: Target) -> Finding:
    named, carrier = target.named, target.carrier
    if target.sees_one_decky:
        return Finding("note", "interface", describe_partial_view(named))
    what = f"a {carrier.kind}" if carrier.kind else "hardware"
    names = ", ".join(one.name for one in target.macvlans[:_NAMES_LISTED])
    parent = f"parent of {names}" if names else "without a macvlan"
    if named is carrier:
        return Finding("ok", "interface", f"{carrier.name} is {what}, {parent}")
    mode = rtnetlink.MACVLAN_MODES.get(named.macvlan_mode or 0, "unknown")
    return Finding(
        "ok",
        "interface",
        f"{named.name} is a {named.kind} in {mode} mode; its parent {carrier.name} is watched, "
        f"{what}, {parent}",
    )


def _namespaces(target: Target, resolution: Resolution) -> Finding:
    """What the search of all network namespaces found, or which of them it could not search."""
    if resolution.gaps is not None:
        return Finding("note", "namespaces", resolution.gaps, ADVICE)
    return Finding(
        "ok",
        "namespaces",
        f"{resolution.searched} searched, {len(target.macvlans)} macvlans on {target.name}, "
        f"{'one or more' if target.vepa else 'none'} in VEPA mode",
    )


def _state(carrier: Interface) -> Iterator[Finding]:
    name = carrier.name
    if carrier.flags & rtnetlink.IFF_UP:
        yield Finding("ok", "link", f"{name} is up")
    else:
        yield Finding("note", "link", f"{name} is down", f"ip link set {name} up")
    yield Finding(
        "ok", "xdp", f"not used by default, because TC keeps offloads working; {_xdp(carrier)}"
    )
    if lock.is_claimed(carrier.ifindex):
        yield Finding(
            "note", "agent", f"an agent watches {name} already", "stop it before starting another"
        )


def _xdp(carrier: Interface) -> str:
    features = xdp_features(carrier.ifindex)
    if features is None:
        return f"before Linux 6.3 the kernel does not report what the driver of {carrier.name} has"
    kind = "native" if features & XDP_BASIC else "only generic"
    return f"the driver of {carrier.name} has {kind} XDP"

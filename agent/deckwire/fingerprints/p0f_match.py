"""Which signature of a file an observation matches, by p0f v3's rules, without trying them all."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from deckwire.fingerprints.p0f import MAX_DISTANCE, QUIRKS, Observation, distance_guess
from deckwire.fingerprints.p0f_db import Label, Signature

_IPV4_QUIRKS = QUIRKS["df"] | QUIRKS["id+"] | QUIRKS["id-"]
_IPV6_QUIRKS = QUIRKS["flow"]
# What networks do to packets: they clear DF and the id that goes with it, and mark congestion.
_FUZZY_MISSING = QUIRKS["df"] | QUIRKS["id+"]
_FUZZY_ADDED = QUIRKS["id-"] | QUIRKS["ecn"]

_WindowKey = tuple[str, int] | None
_Shape = tuple[object, ...]


@dataclass(frozen=True, slots=True)
class Match:
    """The best signature for an observation."""

    signature: Signature
    fuzzy: bool
    """Quirks or TTL fit only as far as p0f lets networks change them."""
    distance: int
    """Hops, by the signature's initial TTL where that is believable."""

    @property
    def label(self) -> Label:
        """What the signature stands for."""
        return self.signature.label


class SignatureIndex:
    """Signatures by what must be equal, so that the cost is that of the look-alikes only.

    The first key is what is always equal (direction, option layout, padding, IP option length,
    payload class), the second what mostly is (window scale and window rule). A signature with a
    wildcard stands under every key that the wildcard admits, or under None.
    """

    def __init__(self, signatures: Iterable[Signature]) -> None:
        self._shapes: dict[_Shape, dict[tuple[int | None, _WindowKey], list[Signature]]] = {}
        for signature in signatures:
            payloads = (False, True) if signature.payload is None else (signature.payload,)
            for payload in payloads:
                shape = self._shapes.setdefault(_shape(signature, payload), defaultdict(list))
                shape[signature.scale, _window_key(signature)].append(signature)

    def candidates(self, observation: Observation) -> list[Signature]:
        """The signatures that have to be compared, in the order of their file."""
        shape = self._shapes.get(_shape(observation, observation.payload))
        if shape is None:
            return []
        windows: list[_WindowKey] = [("value", observation.wsize), None]
        if observation.multiple is not None:
            windows.append(observation.multiple)
        found: list[Signature] = []
        for scale in (observation.scale, None):
            for window in windows:
                found += shape.get((scale, window), ())
        return sorted(found, key=lambda signature: signature.line)

    def match(self, observation: Observation) -> Match | None:
        """The first exact specific signature, else the first exact generic, else the first fuzzy.

        Nothing if the first fuzzy one is a tool's: programs are recognised exactly or not at all.
        """
        generic: Signature | None = None
        fuzzy: Signature | None = None
        for signature in self.candidates(observation):
            exact = _compare(signature, observation)
            if exact is None:
                continue
            if not exact:
                fuzzy = fuzzy or signature
            elif not signature.label.generic:
                return Match(signature, False, signature.ttl - observation.ttl)
            else:
                generic = generic or signature
        if generic is not None:
            return Match(generic, False, generic.ttl - observation.ttl)
        if fuzzy is None or fuzzy.label.is_tool:
            return None
        distance = fuzzy.ttl - observation.ttl
        if distance < 0 or (distance > MAX_DISTANCE and not fuzzy.ttl_is_maximum):
            distance = distance_guess(observation.ttl)
        return Match(fuzzy, True, distance)


def _shape(of: Signature | Observation, payload: bool) -> _Shape:
    return of.direction, of.layout, of.padding, of.olen, payload


def _window_key(signature: Signature) -> _WindowKey:
    """A divisor rule cannot be looked up by the window: it stands with the wildcards."""
    if signature.window is not None and signature.window[0] == "%":
        return None
    return signature.window


def _compare(signature: Signature, observation: Observation) -> bool | None:
    """True for an exact match, False for a fuzzy one, None for none.

    What the index looks up (layout, padding, olen, payload, scale, window) is equal already.
    """
    if signature.ver is not None and signature.ver != observation.ver:
        return None
    if signature.mss is not None and signature.mss != observation.mss:
        return None
    if (
        signature.window is not None
        and signature.window[0] == "%"
        and observation.wsize % signature.window[1] != 0
    ):
        return None

    expected = signature.quirks
    if signature.ver is None:
        expected &= ~(_IPV6_QUIRKS if observation.ver == 4 else _IPV4_QUIRKS)
    missing = expected & ~observation.quirks
    added = observation.quirks & ~expected
    if missing & ~_FUZZY_MISSING or added & ~_FUZZY_ADDED:
        return None
    exact = not missing and not added

    distance = signature.ttl - observation.ttl
    if signature.ttl_is_maximum:
        return exact if distance >= 0 else None
    return exact and 0 <= distance <= MAX_DISTANCE

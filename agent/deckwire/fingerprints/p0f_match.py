"""Find the signature that an observation matches by the rules of p0f v3, without trying all."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from deckwire.fingerprints.p0f import MAX_DISTANCE, QUIRKS, Observation
from deckwire.fingerprints.p0f_db import Signature

_IPV4_QUIRKS = QUIRKS["df"] | QUIRKS["id+"] | QUIRKS["id-"]
_IPV6_QUIRKS = QUIRKS["flow"]
# Changes that networks make: they clear DF and the IP id that goes with it, and mark congestion.
_FUZZY_MISSING = QUIRKS["df"] | QUIRKS["id+"]
_FUZZY_ADDED = QUIRKS["id-"] | QUIRKS["ecn"]

_WindowKey = tuple[str, int] | None
_Shape = tuple[object, ...]


class SignatureIndex:
    """Signatures by the fields that must be equal, so that only similar signatures cost time.

    The first key holds the fields that must always be equal: direction, option layout, padding,
    IP option length and payload class. The second key holds window scale and window rule, which
    may be wildcards. A signature with a payload wildcard is stored under both classes; any other
    wildcard is stored as None.
    """

    def __init__(self, signatures: Iterable[Signature]) -> None:
        self._shapes: dict[_Shape, dict[tuple[int | None, _WindowKey], list[Signature]]] = {}
        for signature in signatures:
            payloads = (False, True) if signature.payload is None else (signature.payload,)
            for payload in payloads:
                shape = self._shapes.setdefault(_shape(signature, payload), defaultdict(list))
                shape[signature.scale, _window_key(signature)].append(signature)

    def candidates(self, observation: Observation) -> list[Signature]:
        """Return the signatures to compare with, in the order of their file."""
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

    def match(self, observation: Observation) -> Signature | None:
        """Return the first exact specific signature, else exact generic, else fuzzy, else None.

        The result is None if the first fuzzy signature is that of a tool: tools must match exactly.
        """
        generic: Signature | None = None
        fuzzy: Signature | None = None
        for signature in self.candidates(observation):
            exact = compare(signature, observation)
            if exact is None:
                continue
            if not exact:
                fuzzy = fuzzy or signature
            elif not signature.label.generic:
                return signature
            else:
                generic = generic or signature
        if generic is not None:
            return generic
        return None if fuzzy is None or fuzzy.label.is_tool else fuzzy


def _shape(of: Signature | Observation, payload: bool) -> _Shape:
    return of.direction, of.layout, of.padding, of.olen, payload


def _window_key(signature: Signature) -> _WindowKey:
    """Return the window rule as a key; a divisor rule has no key and is stored like a wildcard."""
    if signature.window is not None and signature.window[0] == "%":
        return None
    return signature.window


def compare(signature: Signature, observation: Observation) -> bool | None:
    """Return True for an exact match, False for a fuzzy match, None for no match.

    `signature` is one of `SignatureIndex.candidates`: the fields in its keys are not compared.
    A match is fuzzy if its quirks or TTL fit only with changes that p0f attributes to networks.
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

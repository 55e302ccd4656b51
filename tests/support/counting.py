"""Finds counters: in the source by additions, in a running agent by walking its objects."""

from __future__ import annotations

import ast
import inspect
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import deckwire

SOURCE = Path(deckwire.__file__).parent
OTHER_PROCESSES = ("loader", "lab", "demo", "doctor")
"""Packages that are no part of a capture."""
NAMED_LIKE_COUNTERS = re.compile(
    r"_?(counts?|counters?|dropped|lost|late|corrupt|rejected|received|evicted|errors|ignored"
    r"|suppressed|misplaced|malformed|failed|refused)"
)


class Increment(NamedTuple):
    """An attribute that some code adds to."""

    owner: str
    """Module and class, if it is an attribute of `self`; else ""."""
    attribute: str


class Found(NamedTuple):
    """An attribute of an object of the running agent that may count something."""

    holder: object
    attribute: str

    @property
    def name(self) -> str:
        """Module, class and attribute: where it is defined, as far as that is known."""
        kind = next(
            (
                one
                for one in type(self.holder).__mro__
                if Increment(qualified(one), self.attribute) in INCREMENTS
                or self.attribute in vars(one)
            ),
            type(self.holder),
        )
        return f"{qualified(kind)}.{self.attribute}"

    @property
    def counts(self) -> bool:
        """Whether it holds a number, or numbers by key."""
        value = getattr(self.holder, self.attribute)
        if isinstance(value, int | Counter):
            return not isinstance(value, bool)
        return (
            isinstance(value, dict)
            and bool(value)
            and all(isinstance(count, int) for count in value.values())
        )

    def raise_by(self, count: int) -> None:
        """Count so many more."""
        value = getattr(self.holder, self.attribute)
        if isinstance(value, Counter):
            value["found_by_walking"] += count
        elif isinstance(value, dict):
            value[next(iter(value))] += count
        else:
            setattr(self.holder, self.attribute, value + count)


def qualified(kind: type) -> str:
    """Module and name of a class, without the package."""
    return f"{kind.__module__}.{kind.__qualname__}".removeprefix("deckwire.")


def find_increments() -> set[Increment]:
    """All attributes that the source adds numbers to."""
    found = set()
    for path in sorted(SOURCE.rglob("*.py")):
        place = path.relative_to(SOURCE)
        if place.parts[0] in OTHER_PROCESSES:
            continue
        module = ".".join(place.with_suffix("").parts)
        found |= _increments_in(ast.parse(path.read_text()), module)
    return found


def find_keys() -> set[str]:
    """All texts under which the source counts something, as in ``counts["flow_probes"] += 1``."""
    nodes = (
        node
        for path in SOURCE.rglob("*.py")
        if path.relative_to(SOURCE).parts[0] not in OTHER_PROCESSES
        for node in ast.walk(ast.parse(path.read_text()))
    )
    return {
        node.target.slice.value
        for node in nodes
        if isinstance(node, ast.AugAssign)
        and isinstance(node.target, ast.Subscript)
        and isinstance(node.target.slice, ast.Constant)
        and isinstance(node.target.slice.value, str)
    }


def _increments_in(tree: ast.AST, owner: str) -> set[Increment]:
    found = set()
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.ClassDef):
            found |= _increments_in(node, f"{owner}.{node.name}")
        else:
            found |= _increments_in(node, owner)
    if isinstance(tree, ast.AugAssign) and isinstance(tree.op, ast.Add | ast.Sub):
        target = tree.target.value if isinstance(tree.target, ast.Subscript) else tree.target
        if isinstance(target, ast.Attribute):
            of_self = isinstance(target.value, ast.Name) and target.value.id == "self"
            found.add(Increment(owner if of_self else "", target.attr))
    return found


INCREMENTS = find_increments()
KEYS = find_keys()


def find_counters(*roots: object) -> list[Found]:
    """All counters of the objects that the roots lead to."""
    return [found for found in find_added_to(*roots) if found.counts]


def find_added_to(*roots: object) -> list[Found]:
    """All counters, and whatever else the source adds to, such as a list."""
    return [found for one in _objects(roots) for found in _found_in(one)]


def _objects(roots: tuple[object, ...]) -> Iterator[object]:
    """Objects of this package that attributes, containers and bound methods lead to."""
    seen: set[int] = set()
    waiting: list[object] = list(roots)
    while waiting:
        one = waiting.pop()
        if id(one) in seen or isinstance(one, str | bytes | int | float | type | None):
            continue
        seen.add(id(one))
        if type(one).__module__.startswith("deckwire."):
            yield one
            waiting += [getattr(one, name, None) for name in _attributes(one)]
        if isinstance(one, Mapping):
            waiting += [*one.keys(), *one.values()]
        elif isinstance(one, list | tuple | set | frozenset) or type(one).__name__ == "deque":
            waiting += one
        # Methods, partial functions and closures.
        waiting += [getattr(one, "__self__", None), getattr(one, "func", None)]
        waiting += [*(getattr(one, "args", None) or ()), getattr(one, "keywords", None)]
        waiting += [cell.cell_contents for cell in getattr(one, "__closure__", None) or ()]


def _attributes(one: object) -> set[str]:
    """Names of what the object itself holds."""
    slots = (getattr(kind, "__slots__", ()) for kind in type(one).__mro__)
    names = {name for group in slots for name in ([group] if isinstance(group, str) else group)}
    return names | set(getattr(one, "__dict__", {}))


def _found_in(one: object) -> Iterator[Found]:
    owners = {qualified(kind) for kind in type(one).__mro__} | {""}
    added_to = {found.attribute for found in INCREMENTS if found.owner in owners}
    names = _attributes(one)
    for name in sorted(names | added_to):
        static = inspect.getattr_static(one, name, None)
        if static is None or (name not in names and isinstance(static, property)):
            continue
        looks_like_one = (
            isinstance(getattr(one, name, None), Counter)
            or type(one).__name__ == "Counters"
            or NAMED_LIKE_COUNTERS.fullmatch(name) is not None
        )
        if name in added_to or looks_like_one:
            yield Found(one, name)

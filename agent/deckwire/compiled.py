"""Which form of the hot modules runs: compiled by mypyc, or their sources.

A build may add the modules that pyproject.toml lists as extension modules of one Python
(deploy/compile.py). They run if this Python can load them, and if they were made from the very
sources that are installed here. Otherwise those sources run, and emit the same bytes. It is all or
none, because compiled modules call each other directly.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from importlib import import_module
from importlib.machinery import EXTENSION_SUFFIXES, ModuleSpec
from importlib.util import source_hash, spec_from_file_location

PURE = "DECKWIRE_PURE"
"""With this variable in the environment, the sources run."""
ROOT = os.path.dirname(os.path.abspath(__file__))
FOLDER = os.path.join(ROOT, "extension")
"""The compiled modules, in folders as their sources are."""
SUFFIX = EXTENSION_SUFFIXES[0]
"""Ends the names of files that only this version of Python loads."""
MANIFEST = f"modules{SUFFIX.removesuffix('.so')}"
"""File of FOLDER. Its first line names the library that has the code of all modules. Each other
line has the name of a module and the hash of the source that it was made from."""


class Compiled:
    """Finds compiled modules for `import`. Sources are read when the first one is wanted."""

    def __init__(self, root: str = ROOT, folder: str = FOLDER) -> None:
        """`root` is the folder of this package."""
        self._parent = os.path.dirname(root)
        self._folder = folder
        self._library = ""
        self._hashes: dict[str, str] = {}
        self.is_broken = False
        """They were made for this Python, and cannot be used."""
        self._why: str | None = None
        self._is_known = False
        """`_why` is the answer."""
        path = os.path.join(folder, MANIFEST)
        if os.environ.get(PURE):
            self._answer(f"{PURE} is set")
            return
        try:
            with open(path, encoding="ascii") as file:
                self._library = file.readline().strip()
                self._hashes = dict(map(_two, file))
        except OSError:
            self._answer("none are compiled for this Python")
        except ValueError:
            self.is_broken = True
            self._answer(f"{path} is damaged")

    def find_spec(self, name: str, *_: object) -> ModuleSpec | None:
        """Where a module is loaded from (importlib.abc.MetaPathFinder); None if not from here."""
        if name != self._library and (name not in self._hashes or self.why_not() is not None):
            return None
        path = os.path.join(self._folder, *name.split(".")) + SUFFIX
        return spec_from_file_location(name, path)

    def __iter__(self) -> Iterator[str]:
        """The names of the compiled modules, whether they run or not."""
        return iter(self._hashes)

    def why_not(self) -> str | None:
        """Why the sources run; None if the compiled modules do."""
        if not self._is_known:
            self._answer(self._examine())
            self.is_broken = self._why is not None
        return self._why

    def _answer(self, why: str | None) -> None:
        self._why, self._is_known = why, True

    def _examine(self) -> str | None:
        for name, compiled in self._hashes.items():
            try:
                with open(f"{os.path.join(self._parent, *name.split('.'))}.py", "rb") as file:
                    known = source_hash(file.read()).hex() == compiled
            except OSError:
                known = False
            if not known:
                return f"{name} is not what was compiled"
        try:
            import_module(self._library)
        except (ImportError, ValueError) as error:
            # For instance, the system's C library is older than the one of the build.
            return str(error)
        return None


def _two(line: str) -> tuple[str, str]:
    name, compiled = line.split()
    return name, compiled


FORM = Compiled()
"""What this process runs."""


def install() -> None:
    """Let `import` find the compiled modules. They must not be imported before."""
    sys.meta_path.insert(0, FORM)

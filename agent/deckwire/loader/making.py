"""Makes programs and maps in the kernel: from a kept object, or by compiling the sources."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Mapping
from typing import Any, NamedTuple

from deckwire.kernel.maps import Map
from deckwire.kernel.names import SETTINGS_MAP, XDP_PROGRAM
from deckwire.kernel.programs import Program
from deckwire.loader.creation import RefusedError, create
from deckwire.loader.errors import LoaderError
from deckwire.loader.kept_objects import NotLoadedError, any_kept, find
from deckwire.loader.kernel_object import KernelObject
from deckwire.loader.module import (
    MISMATCH,
    CompilerMissingError,
    compile_module,
    flags,
    load_programs,
    maps_of,
    refusal,
    settings_of,
)
from deckwire.loader.symbols import empty_symbols


class Made(NamedTuple):
    """Programs and maps, before anything is attached."""

    maps: dict[str, Map]
    programs: dict[str, Program]
    settings: Mapping[str, tuple[int, int]]
    """Offset and size of each member of struct settings, in bytes."""
    kept: bool
    """Nothing was compiled."""

    def write_settings(self, settings: Mapping[str, int]) -> None:
        """Writes struct settings. Members that are not named become 0.

        Raises:
            LoaderError: it has no such member.
        """
        table = self.maps[SETTINGS_MAP]
        value = bytearray(table.value_size)
        for name, number in settings.items():
            if name not in self.settings:
                raise LoaderError(f"struct settings has no field {name}: {MISMATCH}")
            at, size = self.settings[name]
            value[at : at + size] = int(number).to_bytes(size, sys.byteorder)
        table.update(bytes(4), bytes(value))


def prepare() -> None:
    """Loads the compiler before the request comes, if no object was kept that could replace it."""
    if not any_kept():
        with contextlib.suppress(ImportError):  # compile_module() reports it
            import bcc  # noqa: F401, PLC0415 - 72 MB that attaching does not need


def kinds_of(request: Mapping[str, Any]) -> dict[str, str]:
    """The wanted programs, with their kinds, such as SCHED_CLS."""
    kinds = dict.fromkeys((*request["programs"], *request["jumps"]), "SCHED_CLS")
    if request["xdp"] != "off":
        kinds[XDP_PROGRAM] = "XDP"
    return kinds


def make(request: Mapping[str, Any]) -> Made:
    """Makes what a request needs.

    Args:
        request: as kernel/loading.py makes it.

    Raises:
        LoaderError: with one line for the user.
    """
    kept = _find(request)
    if kept is None:
        return _compiled(request)
    try:
        maps, programs = create(kept)
    except RefusedError as error:
        _log(error)
        try:
            # If the kernel refuses that too, the verifier's log has source lines.
            return _compiled(request)
        except CompilerMissingError:
            raise refusal(str(error), os.strerror(error.number), error.number) from error
    return Made(maps, programs, kept.settings, kept=True)


def _find(request: Mapping[str, Any]) -> KernelObject | None:
    try:
        return find(request, flags(request))
    except NotLoadedError as error:
        _log(error)
        return None


def _log(error: Exception) -> None:
    """To the loader's log, as all that compiler and verifier print."""
    print(f"compiling, because a kept object is not loaded: {error}", file=sys.stderr, flush=True)


def _compiled(request: Mapping[str, Any]) -> Made:
    kinds = kinds_of(request)
    empty_symbols()
    module = compile_module(request)
    try:
        programs = load_programs(module, kinds)
    except LoaderError:
        # Once more with the source lines, for the log.
        with contextlib.suppress(LoaderError):
            load_programs(compile_module(request, lines=True), kinds)
        raise
    return Made(maps_of(module), programs, settings_of(module), kept=False)

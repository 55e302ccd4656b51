"""The command ``python -m deckwire.loader.keep``: compiles the programs, and keeps the objects.

It is run where Deckwire is installed or packaged, never by the agent. The objects are for tables of
default sizes: live, with XDP and without, on every kernel; and for replays.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from deckwire.kernel.loading import LoadRequest
from deckwire.loader import kept_objects
from deckwire.loader.errors import LoaderError
from deckwire.loader.kernel_object import KernelObject
from deckwire.loader.making import kinds_of
from deckwire.loader.module import compile_module, flags, object_of, raise_memlock
from deckwire.loader.symbols import empty_symbols

MODE = 0o444
KERNELS = (
    {"KNOWS_MD5": False, "KNOWS_AO": False},
    {"KNOWS_MD5": True, "KNOWS_AO": False},
    {"KNOWS_MD5": True, "KNOWS_AO": True},
)
"""What kernels know of signatures of segments. AO came after MD5, and needs the same option."""


def main() -> None:
    """Keeps the objects. Where that is impossible it says so, and the agent compiles at its start.

    Raises:
        SystemExit: the sources do not compile.
    """
    arguments = _arguments()
    if os.geteuid():
        print("kept objects: none, because only root can make maps; each start compiles")
        return
    raise_memlock()
    empty_symbols()
    made: dict[str, bytes] = {}
    for request, signatures in _requests():
        try:
            made[kept_objects.file_name(request, flags(request, signatures))] = compiled(
                request, signatures
            ).to_json()
        except LoaderError as error:
            if "Operation not permitted" in str(error):
                print(f"kept objects: none, each start compiles: {error}")
                return
            raise SystemExit(f"deckwire: {error}") from error
    _write(arguments.into, made)
    print(f"kept objects: {len(made)} in {arguments.into}")


def compiled(
    request: Mapping[str, Any], signatures: Mapping[str, bool] | None = None
) -> KernelObject:
    """Compiles the object for a request, for kernels that know these signatures (None: ours).

    Raises:
        LoaderError: with one line for the user.
    """
    module = compile_module(request, signatures=signatures)
    return object_of(module, kinds_of(request))


def _requests() -> Iterator[tuple[dict[str, Any], Mapping[str, bool]]]:
    """The requests to keep objects for, each with the signatures that a kernel knows."""
    live = LoadRequest()
    for signatures in KERNELS:
        for xdp in ("off", "generic"):
            yield replace(live, xdp=xdp).body(), signatures
    # Its flags do not depend on the kernel.
    yield replace(live, replay_clock=True).body(), KERNELS[0]


def _write(directory: Path, made: Mapping[str, bytes]) -> None:
    """Writes the files, and removes those of other sources."""
    directory.mkdir(exist_ok=True)
    for old in directory.glob(f"*{kept_objects.SUFFIX}"):
        if old.name not in made:
            old.unlink()
    for name, data in made.items():
        new = directory / f"{name}.new"
        new.unlink(missing_ok=True)
        new.write_bytes(data)
        new.chmod(MODE)
        new.replace(directory / name)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--into", type=Path, default=Path(kept_objects.DIRECTORY), metavar="DIRECTORY"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()

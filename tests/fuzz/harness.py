"""Fuzz one target with atheris: ``python -m tests.fuzz.harness TARGET LIBFUZZER-ARGUMENTS``."""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["deckwire"], enable_loader_override=False):
    from tests.fuzz.targets import load

    _TARGET = load(sys.argv[1])


def main() -> None:
    """Write the seeds into the corpus, which is the last argument, and start libFuzzer."""
    corpus = Path(sys.argv[-1])
    for number, seed in enumerate(_TARGET.seeds()):
        (corpus / f"seed-{number:03d}").write_bytes(seed)
    atheris.Setup([sys.argv[0], *sys.argv[2:]], _TARGET.check)
    atheris.Fuzz()


main()

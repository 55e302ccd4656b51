"""One target under atheris: ``python -m fuzz.harness TARGET LIBFUZZER-ARGUMENTS``."""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["deckwire"], enable_loader_override=False):
    from tests.fuzz.targets import load

    _TARGET = load(sys.argv[1])


def main() -> None:
    """Writes the seeds into the corpus, the last argument, and fuzzes until told to stop."""
    corpus = Path(sys.argv[-1])
    for number, seed in enumerate(_TARGET.seeds()):
        (corpus / f"seed-{number:03d}").write_bytes(seed)
    atheris.Setup([sys.argv[0], *sys.argv[2:]], _TARGET.check)
    atheris.Fuzz()


main()

"""The shared captures with their expected values. They are no part of the project.

They are looked for in the directory that DECKWIRE_SHARED names, else next to the checkout.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
SHARED = Path(os.environ.get("DECKWIRE_SHARED") or CHECKOUT.parent / "shared").resolve()
CORPUS = SHARED / "corpus"

needs_corpus = pytest.mark.skipif(not CORPUS.is_dir(), reason=f"no capture corpus: {CORPUS}")


def captures() -> list[str]:
    """Names of all captures; empty without the corpus."""
    index = CORPUS / "index.json"
    if not index.exists():
        return []
    return [entry["pcap"] for entry in json.loads(index.read_text())]


def expected(name: str) -> dict[str, Any]:
    """The expected results of a capture."""
    document: dict[str, Any] = json.loads((CORPUS / "expected" / f"{name}.json").read_text())
    return document


def labelled_packets() -> dict[int, dict[str, Any]]:
    """The entries of syn_os.json that have an example packet, by the client port of it."""
    entries = json.loads((CORPUS / "syn_os.json").read_text())
    return {entry["client_port"]: entry for entry in entries if "client_port" in entry}

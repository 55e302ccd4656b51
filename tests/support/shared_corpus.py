"""The shared corpus of captures, if it lies beside the checkout."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

CORPUS = Path(__file__).resolve().parents[2].parent / "shared" / "corpus"


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

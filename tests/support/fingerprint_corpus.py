"""Where the capture corpus lies, if it is there: beside the repository, never in it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

CORPUS = Path(__file__).parents[3] / "shared" / "corpus"
P0F_FP = Path("/etc/p0f/p0f.fp")

needs_corpus = pytest.mark.skipif(not CORPUS.is_dir(), reason="no capture corpus beside the repo")
needs_p0f_fp = pytest.mark.skipif(not P0F_FP.is_file(), reason="p0f.fp is not installed")


def labelled_packets() -> dict[int, dict[str, Any]]:
    """The entries of syn_os.json that have an example packet, by the client port of it."""
    entries = json.loads((CORPUS / "syn_os.json").read_text())
    return {entry["client_port"]: entry for entry in entries if "client_port" in entry}

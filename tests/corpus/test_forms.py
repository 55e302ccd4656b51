"""Both forms of the hot modules write the same bytes over the whole corpus."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from deckwire.compiled import FORM, PURE
from deckwire.options import FORMATS
from tests.support.shared import CORPUS, captures, expected, needs_corpus

pytestmark = [
    pytest.mark.root,
    needs_corpus,
    pytest.mark.skipif(FORM.why_not() is not None, reason=f"only one form: {FORM.why_not()}"),
]


@pytest.fixture(scope="module")
def deckies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A deckies file with the server of every stream."""
    servers = {stream["dst"] for name in captures() for stream in expected(name)["streams"]}
    path = tmp_path_factory.mktemp("forms") / "deckies.txt"
    path.write_text("".join(f"{address} decky\n" for address in sorted(servers)))
    return path


def written(deckies: Path, form: str, environment: dict[str, str]) -> bytes:
    argv = [sys.executable, "-m", "deckwire", "replay", "--deckies", str(deckies)]
    argv += ["--dedup-ttl", "0", "--format", form]
    argv += [str(CORPUS / "pcap" / name) for name in captures()]
    done = subprocess.run(argv, capture_output=True, env=os.environ | environment, check=False)
    assert done.returncode in (0, 1), done.stderr
    return done.stdout


@pytest.mark.parametrize("form", FORMATS)
def test_both_forms_write_the_same_bytes(deckies: Path, form: str) -> None:
    compiled, pure = written(deckies, form, {}), written(deckies, form, {PURE: "1"})
    assert compiled.splitlines() == pure.splitlines()
    assert compiled.count(b"\n") > 1_000

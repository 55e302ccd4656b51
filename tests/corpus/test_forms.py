"""Both forms of the hot modules write the same bytes over the whole corpus."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from deckwire.compiled import FORM, PURE
from deckwire.limits import REDACT_KEY_BYTES
from deckwire.options import FORMATS
from tests.support.protocols import PROTOCOLS, every_stream, plain
from tests.support.shared import CORPUS, captures, expected, needs_corpus

pytestmark = [
    pytest.mark.root,
    needs_corpus,
    pytest.mark.skipif(FORM.why_not() is not None, reason=f"only one form: {FORM.why_not()}"),
]


REPLAYS = 10
"""The most replays until none of its datagrams is lost."""


class Corpus(NamedTuple):
    captures: list[str]
    """The files, TLS first."""
    configuration: Path
    """The server of every stream is a decky, and one key replaces credentials in all replays."""


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    directory = tmp_path_factory.mktemp("forms")
    deckies = directory / "deckies.txt"
    deckies.write_text("".join(f"{address} decky\n" for address in sorted(set(_servers()))))
    key = directory / "redact.key"
    key.write_bytes(bytes(REDACT_KEY_BYTES))
    configuration = directory / "deckwire.toml"
    configuration.write_text(f'deckies = "{deckies}"\nredact_key = "{key}"\n')
    paths = [CORPUS / "pcap" / name for name in captures()]
    paths += [CORPUS / "syn_os.pcap", *sorted((PROTOCOLS / "pcap").glob("*"))]
    return Corpus([str(plain(path, directory)) for path in paths], configuration)


def _servers() -> Iterator[str]:
    streams = [stream for name in captures() for stream in expected(name)["streams"]]
    for stream in [*streams, *every_stream()]:
        # The deckies file has IPv4 addresses in their own form alone.
        if not stream["dst"].startswith("::ffff:"):
            yield stream["dst"]


def written(corpus: Corpus, options: tuple[str, ...], environment: dict[str, str]) -> bytes:
    """What one replay of all captures writes to stdout. Nothing may be lost or contained.

    The seed of the kernel's hashes is random. With some seeds, two datagrams of the corpus meet in
    one slot, so one event is missing, which is counted. Another replay has another seed.
    """
    argv = [sys.executable, "-m", "deckwire", "replay", "--config", str(corpus.configuration)]
    for _ in range(REPLAYS):
        done = subprocess.run(
            [*argv, *options, *corpus.captures],
            capture_output=True,
            env=os.environ | environment,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        met = re.findall(rb"datagrams_begun_lost\W+(\d+)", done.stdout)
        assert met
        if not any(map(int, met)):
            return done.stdout
    pytest.fail("two datagrams met in one slot in each replay")


@pytest.mark.parametrize(
    "options",
    [("--format", name, "--dedup-ttl", "0") for name in FORMATS] + [("--format", FORMATS[0])],
    ids=" ".join,
)
def test_both_forms_write_the_same_bytes(corpus: Corpus, options: tuple[str, ...]) -> None:
    compiled, pure = written(corpus, options, {}), written(corpus, options, {PURE: "1"})
    lines = pure.splitlines()
    print(f"{len(corpus.captures)} captures, {len(lines)} lines")
    # Line by line, because a report of how all of them differ takes minutes.
    for number, two in enumerate(zip(compiled.splitlines(), lines, strict=False)):
        assert two[0] == two[1], f"line {number}: {two[0]!r} and {two[1]!r}"
    assert len(compiled) == len(pure)
    assert len(lines) > 5 * len(corpus.captures)

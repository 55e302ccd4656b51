"""The documentation: what it names is in this tree, its links resolve, its lines are short."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from dataclasses import fields
from functools import cache
from pathlib import Path

import pytest

from deckwire import limits
from deckwire.options import OPTIONS, PROFILE_NAMES
from deckwire.output.formats import DECNET_JSON
from deckwire.output.outputs import OutputSettings
from deckwire.output.sinks.spec import OWN
from deckwire.profiles import PROFILES
from tests.support.shared import CHECKOUT

LINE_CHARACTERS = 100
"""Longest line of prose."""
FOLDERS = ("", "agent/deckwire", "tests", "docs")
"""Where a path in the documentation may start."""
PAGES = [CHECKOUT / "README.md", CHECKOUT / "CHANGELOG.md", *sorted(CHECKOUT.glob("docs/*.md"))]

FENCE = re.compile(r"^ *```.*?^ *```$", re.MULTILINE | re.DOTALL)
INDENTED = re.compile(r"(?<=\n\n)(?: {4}.*\n|\n)+")
SOURCE = re.compile(r"(?:[\w.-]+/)*[\w.-]+\.(?:py|[ch]|sh|service|sysusers|conf)")
FUZZED = re.compile(r"fuzz ((?:`\w+`(?:, )?)+)")


@pytest.fixture(params=PAGES, ids=lambda page: page.name)
def page(request: pytest.FixtureRequest) -> Path:
    found: Path = request.param
    return found


def prose(page: Path) -> str:
    """The page without its code blocks, line for line."""

    def blank(block: re.Match[str]) -> str:
        return "\n" * block[0].count("\n")

    return INDENTED.sub(blank, FENCE.sub(blank, page.read_text()))


def passages(page: Path) -> Iterator[str]:
    """The paragraphs, list items and rows of tables."""
    for paragraph in re.split(r"\n(?=[|-])|\n\n", prose(page)):
        yield " ".join(paragraph.split())


@cache
def tracked() -> frozenset[str]:
    """All files of the project, from its top."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"],
        cwd=CHECKOUT,
        check=True,
        capture_output=True,
        text=True,
    )
    return frozenset(listed.stdout.splitlines())


def located(name: str) -> str | None:
    """The file that a path in the documentation names."""
    candidates = (f"{folder}/{name}".lstrip("/") for folder in FOLDERS)
    return next((path for path in candidates if path in tracked()), None)


def anchor(heading: str) -> str:
    """The fragment that GitHub gives a heading."""
    kept = re.sub(r"[^\w\- ]", "", heading.lower())
    return kept.replace(" ", "-")


def test_lines_of_prose_are_short(page: Path) -> None:
    lines = enumerate(prose(page).splitlines(), 1)
    long = [n for n, line in lines if len(line) > LINE_CHARACTERS and not line.startswith("|")]
    assert not long


def test_relative_links_resolve(page: Path) -> None:
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, fragment = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        headings = re.findall(r"^#+ (.+)$", target.read_text(), re.MULTILINE) if fragment else []
        if not target.exists() or (fragment and fragment not in map(anchor, headings)):
            broken.append(link)
    assert not broken


def test_files_and_tests_that_are_named_exist(page: Path) -> None:
    """A test belongs to the last file that the same passage names."""
    missing = []
    for passage in passages(page):
        file = None
        for name in re.findall(r"`([^`]+)`", passage):
            if SOURCE.fullmatch(name):
                file = located(name)
                if file is None and "/" in name:
                    missing.append(name)
            elif re.fullmatch(r"test_\w+", name):
                places = [file] if file else sorted(p for p in tracked() if "/test_" in p)
                texts = [(CHECKOUT / p).read_text() for p in places if p and p.endswith(".py")]
                if not any(f"def {name}(" in text for text in texts):
                    missing.append(name)
    assert not missing


def test_fuzz_targets_that_are_named_exist(page: Path) -> None:
    listed = FUZZED.findall(prose(page))
    names = {name for names in listed for name in re.findall(r"\w+", names)}
    assert {name for name in names if located(f"fuzz/targets/{name}.py") is None} == set()


def test_the_security_review_names_constants_that_exist() -> None:
    kernel = set(re.findall(r"^#define (\w+)", (CHECKOUT / "bpf/limits.h").read_text(), re.M))
    named = set(re.findall(r"`([A-Z]+(?:_[A-Z]+)*)`", (CHECKOUT / "docs/security.md").read_text()))
    assert named
    assert named - kernel - set(vars(limits)) == set()


def test_the_configuration_page_has_every_option_and_key() -> None:
    text = (CHECKOUT / "docs/configuration.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    for option in OPTIONS:
        row = next((row for row in rows if re.search(rf"`{option.key}[`.]", row)), None)
        assert row, f"no row for the key {option.key}"
        assert option.file_only or f"{option.flag} " in row or f"{option.flag}`" in row


def test_the_configuration_page_has_every_row_of_every_profile() -> None:
    """And no other row, in the same order."""
    text = (CHECKOUT / "docs/configuration.md").read_text()
    section = text.partition("\n## Profiles\n")[2].partition("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| `")]
    expected = []
    for name in PROFILE_NAMES:
        assert f'`profile = "{name}"`' in section
        for row in PROFILES[name].rows:
            values = row.value if isinstance(row.value, tuple) else (row.value,)
            shown = ", ".join(f"`{value}`" for value in values)
            expected.append(f"| `{row.key}` | {shown} | {row.why} |")
        assert f"`{PROFILES[name].files}`" in section
        expected += [
            f"| `{key}` | `{value}` |" for key, value in PROFILES[name].file_settings.items()
        ]
    assert rows == expected
    assert tuple(PROFILES) == PROFILE_NAMES


def test_the_outputs_page_has_every_setting_of_an_output() -> None:
    text = (CHECKOUT / "docs/outputs.md").read_text()
    section = text.partition("\n## One output, its own settings\n")[2].partition("\n## ")[0]
    named = [
        re.findall(r"`(\w+)`", line.split("|")[1])
        for line in section.splitlines()
        if line.startswith("| `")
    ]
    settings = {field.name for field in fields(OutputSettings)} - {"to", "own"}
    assert {name for names in named for name in names} == settings | set(OWN)
    assert DECNET_JSON in section

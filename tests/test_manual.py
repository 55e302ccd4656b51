"""The man pages: they are whole, current and right for groff and mandoc."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from deckwire.cli import cli
from deckwire.config import Budgets
from deckwire.limits import SPOOL_BYTES
from deckwire.manual import COMMAND_PAGE, FILE_PAGE, pages
from deckwire.options import BUDGETS, OPTIONS, OUTPUT_SETTINGS
from deckwire.output.outputs import OutputSettings
from deckwire.output.sinks.spec import OWN
from tests.support.unpacked import program

MAN = shutil.which("man")
MANDOC = program("mandoc")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder into which the command wrote the pages."""
    argv = [sys.executable, "-P", "-m", "deckwire.manual", tmp_path / "man"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    return tmp_path / "man"


def test_a_folder_that_cannot_be_made_costs_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    argv = [sys.executable, "-P", "-m", "deckwire.manual", tmp_path / "file" / "man"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(shutil.which("groff") is None, reason="groff is not installed")
def test_groff_warns_of_nothing(folder: Path) -> None:
    for name in (COMMAND_PAGE, FILE_PAGE):
        argv = ["groff", "-man", "-ww", "-z", "-Tutf8", "-rLL=100n", folder / name]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(MANDOC is None, reason="mandoc is not installed")
def test_mandoc_warns_of_nothing(folder: Path) -> None:
    for name in (COMMAND_PAGE, FILE_PAGE):
        argv = [str(MANDOC), "-Tlint", "-Wwarning", folder / name]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.skipif(MAN is None, reason="man is not installed")
def test_man_shows_the_texts_of_the_help(folder: Path) -> None:
    argv = [str(MAN), "-l", "--nh", "--nj", folder / COMMAND_PAGE]
    shown = subprocess.run(
        argv,
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": "/usr/bin:/bin", "MANWIDTH": "20000", "LC_ALL": "C.UTF-8", "TERM": "dumb"},
    ).stdout
    text = " ".join(re.sub(r".\x08", "", shown).split())
    for option in OPTIONS:
        assert option.file_only or " ".join(option.help.replace("`", "").split()) in text
    for name, command in cli.commands.items():
        assert f"deckwire {name}" in text
        first = (command.help or "").split("\n\n", maxsplit=1)[0].replace("`", "")
        assert " ".join(first.split()) in text


def test_the_page_of_the_file_has_every_key() -> None:
    page = pages()[FILE_PAGE]
    for option in OPTIONS:
        assert re.search(rf"^\.B {option.key} = ", page, re.MULTILINE), option.key
    for key in (*BUDGETS, *OUTPUT_SETTINGS):
        assert f"\n.B {key}\n" in page


def test_the_texts_of_tables_have_every_key_and_right_defaults() -> None:
    defaults = {field.name: field.default for field in fields(Budgets)}
    assert set(BUDGETS) == set(defaults)
    for key, text in BUDGETS.items():
        assert text.endswith(f"[default: {defaults[key]}]")
    settings = {field.name for field in fields(OutputSettings)} - {"own"}
    assert set(OUTPUT_SETTINGS) == settings | set(OWN)
    assert OUTPUT_SETTINGS["spool_bytes"].endswith(f"[default: {SPOOL_BYTES}]")


def test_a_build_is_the_same_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    assert '.TH DECKWIRE 1 2023-11-14 "deckwire' in pages()[COMMAND_PAGE]

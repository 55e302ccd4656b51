"""The man pages, made from the help of the commands and the table of options.

``python -m deckwire.manual DIR`` writes deckwire.1 and deckwire.toml.5 into a directory.
"""

from __future__ import annotations

import os
import re
import sys
import textwrap
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NoReturn

import click

from deckwire import __version__
from deckwire.cli import cli
from deckwire.errors import plain
from deckwire.options import BUDGETS, OPTIONS, OUTPUT_SETTINGS, Section
from deckwire.runtime.reload import LIVE

COMMAND_PAGE = "deckwire.1"
FILE_PAGE = "deckwire.toml.5"

_USAGE = "usage: python -m deckwire.manual DIR"
_EXAMPLE = """\
interface = "eth0"
deckies = "deckies.txt"
dedup_ttl = 60

[budgets]
syn_records_per_second = 2000

[[output]]
to = "unix:/dev/log"

[[output]]
to = "file:/var/log/deckwire/tls.json"
format = "json"
events = ["tls_*"]
"""
_SHORT_LIST = 10
"""Options that need no headings."""
_CODE = re.compile(r"`([^`]+)`")


def main() -> NoReturn:
    """Write the pages into the directory of sys.argv."""
    if len(sys.argv) != 2:
        sys.exit(_USAGE)
    folder = Path(sys.argv[1])
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in pages().items():
            (folder / name).write_text(text, encoding="ascii")
    except OSError as error:
        sys.exit(f"{plain(os.fsdecode(error.filename or folder))}: {error.strerror}")
    sys.exit(0)


def pages() -> dict[str, str]:
    """The text of each page by its name."""
    return {COMMAND_PAGE: _joined(_command_page()), FILE_PAGE: _joined(_file_page())}


# --- deckwire(1) ---


def _command_page() -> Iterator[str]:
    yield _title("DECKWIRE", 1, "User Commands")
    yield ".SH NAME"
    yield r"deckwire \- capture agent for decoys on a MACVLAN network"
    yield ".SH SYNOPSIS"
    with click.Context(cli, info_name="deckwire") as context:
        commands = [(name, cli.commands[name]) for name in cli.list_commands(context)]
        for name, command in commands:
            yield f".B deckwire {_escaped(name)}"
            yield _line(" ".join(command.collect_usage_pieces(context)))
            yield ".br"
        yield from (".B deckwire", r"\-\-version")
        yield ".SH DESCRIPTION"
        yield from _prose(cli.help or "")
        yield ".SH COMMANDS"
        for name, command in commands:
            yield f".SS deckwire {_escaped(name)}"
            yield from _prose(command.help or "")
            yield from _options(command, context)
    yield ".SH EXIT STATUS"
    yield from _prose(cli.epilog or "")
    yield ".SH FILES"
    yield from _entry("/etc/deckwire/deckwire.toml", "The configuration file of the service.")
    yield from _entry("/run/deckwire/status.json", "What `deckwire status` reads.")
    yield ".SH SEE ALSO"
    yield ".BR deckwire.toml (5)"


def _options(command: click.Command, parent: click.Context) -> Iterator[str]:
    section_of = {option.key: option.section for option in OPTIONS}
    rows: dict[str, list[tuple[str, str]]] = {section: [] for section in Section}
    others: list[tuple[str, str]] = []
    with click.Context(command, parent=parent) as context:
        for parameter in command.get_params(context):
            row = parameter.get_help_record(context)
            # Arguments are in the usage, and every command has --help.
            if isinstance(parameter, click.Option) and row and "--help" not in parameter.opts:
                rows.get(section_of.get(str(parameter.name), ""), others).append(row)
    sections = {**rows, "Other options": others}
    is_long = sum(map(len, sections.values())) > _SHORT_LIST
    for section, found in sections.items():
        if found and is_long:
            yield ".PP"
            yield f".I {_escaped(section)}"
        for names, text in found:
            yield from _entry(names, text)


# --- deckwire.toml(5) ---


def _file_page() -> Iterator[str]:
    yield _title("DECKWIRE.TOML", 5, "File Formats")
    yield ".SH NAME"
    yield r"deckwire.toml \- configuration file of deckwire"
    yield ".SH SYNOPSIS"
    yield ".I /etc/deckwire/deckwire.toml"
    yield ".SH DESCRIPTION"
    yield from _prose(
        "A TOML file with the settings of `deckwire run`. Each key is also an option of the"
        " command line, unless the key says otherwise; the command line wins. A key that can be"
        " given several times takes a list, or one value without a list. A relative path starts at"
        " the directory of the file.\n\n"
        "`deckwire check-config` checks the file. On SIGHUP the agent reads it again. A key that"
        " is marked `live` takes effect then. If any other key changed, the agent names it, and"
        " stays as it was until a restart."
    )
    for section in Section:
        yield f".SH {_escaped(section.upper())}"
        for option in OPTIONS:
            if option.section is section:
                facts = [f"default: {option.default}"] if option.default else []
                facts += ["live"] if option.setting in LIVE else []
                facts += ["no option of the command line"] if option.file_only else []
                text = option.help + (f"  [{'; '.join(facts)}]" if facts else "")
                yield from _entry(f"{option.key} = {option.metavar or 'true|false'}", text)
    yield ".SH BUDGETS"
    yield from _prose("Keys of the table `budgets`. They take whole numbers.")
    for key, text in BUDGETS.items():
        yield from _entry(key, text)
    yield ".SH SETTINGS OF ONE OUTPUT"
    yield from _prose(
        "An entry of `output` is a text, as on the command line, or a table with these keys. In a"
        " text they follow the output: `stdout,format=json,events=tls_*`."
    )
    for key, text in OUTPUT_SETTINGS.items():
        yield from _entry(key, text)
    yield ".SH EXAMPLE"
    yield from _preformatted(_EXAMPLE.splitlines())
    yield ".SH SEE ALSO"
    yield ".BR deckwire (1)"


# --- roff ---


def _title(name: str, section: int, kind: str) -> str:
    # Builds of a package are to be the same each time.
    seconds = int(os.environ.get("SOURCE_DATE_EPOCH") or time.time())
    date = time.strftime("%Y-%m-%d", time.gmtime(seconds))
    # Without hyphens in names of keys and commands.
    return f'.TH {name} {section} {date} "deckwire {__version__}" "{kind}"\n.nh'


def _prose(text: str) -> Iterator[str]:
    r"""Paragraphs of a help text. One that begins with ``\b`` keeps its lines."""
    for paragraph in re.split(r"\n\s*\n", text.strip("\n")):
        lines = paragraph.splitlines()
        if lines and lines[0].strip() == "\b":
            yield from _preformatted(textwrap.dedent("\n".join(lines[1:])).splitlines())
        else:
            yield ".PP"
            yield _line(" ".join(paragraph.split()))


def _preformatted(lines: Iterable[str]) -> Iterator[str]:
    yield from (".PP", ".RS 4", ".nf")
    for line in lines:
        yield _line(line) if line.strip() else r"\&"
    yield from (".fi", ".RE")


def _entry(term: str, text: str) -> Iterator[str]:
    yield ".TP"
    yield f".B {_escaped(' '.join(term.split()))}"
    yield _line(" ".join(text.split()))


def _line(text: str) -> str:
    """One line of text, with `code` in bold."""
    return _CODE.sub(r"\\fB\1\\fR", _escaped(text))


def _escaped(text: str) -> str:
    """Text in ASCII in which roff sees no requests and no escapes."""
    escaped = text.replace("\\", r"\e").replace("-", r"\-")
    escaped = "".join(one if one.isascii() else f"\\[u{ord(one):04X}]" for one in escaped)
    return rf"\&{escaped}" if escaped.startswith((".", "'")) else escaped


def _joined(lines: Iterable[str]) -> str:
    """The text of a page. A heading begins a paragraph by itself."""
    kept: list[str] = []
    for line in lines:
        if not (line == ".PP" and kept and kept[-1].startswith((".SH ", ".SS "))):
            kept.append(f"{line}\n")
    return "".join(kept)


if __name__ == "__main__":
    main()

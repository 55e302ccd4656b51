"""The command line. What cannot be done ends with one clear line and an exit status."""

from __future__ import annotations

import io
import os
import re
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

import click

from deckwire import __version__
from deckwire.compiled import FORM
from deckwire.errors import PassingError, UsageError
from deckwire.options import OPTIONS, Option, Section

if TYPE_CHECKING:
    from deckwire.config import Settings

_Function = Callable[..., Any]
_OTHER = "Other options"
_VERSION_BYTES = 1_000
"""Read of the file with BCC's version."""
_CONFIG = "/etc/deckwire/deckwire.toml"
"""The configuration file of the unit."""
_COLUMN = 30
"""Characters of an option's names in the help."""
_STATUSES = """\
\b
Exit status:
  0  it has done its work
  1  it failed, and the next try may succeed
  2  it cannot work until somebody changes something
With 1 and 2, one line on stderr says why.
"""


class _SectionedCommand(click.Command):
    """A command whose help lists its options by section."""

    def format_options(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options of each section, then all others."""
        section_of = {option.key: option.section for option in OPTIONS}
        rows: dict[str, list[tuple[str, str]]] = {section: [] for section in Section}
        rows[_OTHER] = []
        for parameter in self.get_params(context):
            row = parameter.get_help_record(context)
            if row is not None and isinstance(parameter, click.Option):
                names, text = row
                section = section_of.get(str(parameter.name), _OTHER)
                # All sections have columns of the same width.
                rows[section].append((names.ljust(_COLUMN), text))
        for section, found in rows.items():
            if not found:
                continue
            with formatter.section(section):
                formatter.write_dl(found)


def _options_of(*, live: bool) -> Callable[[_Function], _Function]:
    """Add the options of the table to `run` or to `replay`, and the one for the file."""

    def add(command: _Function) -> _Function:
        for option in reversed(OPTIONS):
            if not option.file_only and (live or not option.live_only):
                command = _as_click(option)(command)
        return click.option(
            *("-c", "--config"),
            metavar="FILE",
            help="TOML file with these settings and more: see docs/configuration.md. The command"
            " line wins over it.",
        )(command)

    return add


def _seconds(text: str) -> float | str:
    """The number. Any other text stays as it is: its check names the allowed values."""
    try:
        return float(text)
    except ValueError:
        return text


def _count(text: str) -> int | str:
    """The same of a whole number."""
    try:
        return int(text)
    except ValueError:
        return text


def _as_click(option: Option) -> Callable[[_Function], _Function]:
    names = [option.short, option.flag] if option.short else [option.flag]
    text = f"{option.help}  [default: {option.default}]" if option.default else option.help
    if not option.metavar:
        if option.can_negate:
            names[-1] += f"/--no-{option.flag.removeprefix('--')}"
        return click.option(*names, option.key, is_flag=True, default=None, help=text)
    return click.option(
        *names,
        option.key,
        metavar=option.metavar,
        multiple=option.repeats,
        type=_seconds if option.is_seconds else _count if option.is_count else None,
        help=text,
    )


def _show_version(context: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        click.echo(f"deckwire {__version__}, Linux {os.uname().release}, {_bcc()}, {_form()}")
        context.exit()


def _form() -> str:
    """Which form of the hot modules runs, and why."""
    why_not = FORM.why_not()
    return "compiled modules" if why_not is None else f"pure modules ({why_not})"


def _bcc() -> str:
    """BCC with its version, which is read from its file: importing BCC takes 70 MB."""
    found = find_spec("bcc")
    for folder in (found and found.submodule_search_locations) or ():
        with suppress(OSError), open(os.path.join(folder, "version.py"), encoding="utf-8") as file:
            version = re.search(r"[\"']([\w.+~-]+)[\"']", file.read(_VERSION_BYTES))
            if version is not None:
                return f"BCC {version[1]}"
    return "BCC of an unknown version" if found else "no BCC: install python3-bpfcc"


# What click does without a command differs by its version, so the help is shown here.
@click.group(
    invoke_without_command=True,
    subcommand_metavar="COMMAND [OPTIONS]",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=_STATUSES,
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_version,
    help="Show the versions of Deckwire, Linux and BCC, and exit.",
)
@click.pass_context
def cli(context: click.Context) -> None:
    """Watch the decoys of a MACVLAN network from inside the kernel.

    Deckwire emits an event for each SYN, TCP handshake, TLS handshake and connection of a decoy
    (a decky), with fingerprints of who connects.

    \b
    Begin here:
      deckwire doctor -i eth0      is this host fit to run it?
      deckwire demo                see it work, in a network of its own
      deckwire run --help          watch your own deckies
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


@cli.command(cls=_SectionedCommand, short_help="Watch live traffic.", epilog=_STATUSES)
@_options_of(live=True)
def run(config: str | None, **options: Any) -> None:
    """Watch live traffic and emit events, one a line, until SIGTERM or SIGINT.

    Name an interface and the deckies on it:

    \b
      deckwire run -i eth0 --decky 192.0.2.10=web
      deckwire run -i eth0 --deckies deckies.txt --output unix:/dev/log
      deckwire run -c /etc/deckwire/deckwire.toml

    Deckwire attaches to the interface in addition to whatever is there, and detaches at the end.
    It needs root, or the capabilities in deploy/deckwire.service. One line on stderr says when it
    is ready. SIGHUP makes it read its configuration and deckies again, and reopen the
    outputs.
    """
    from deckwire.runtime.run import run_live  # noqa: PLC0415 - replay and --help need none of it

    sys.exit(run_live(lambda: _live_settings(config, options)))


@cli.command(cls=_SectionedCommand, short_help="Read capture files.", epilog=_STATUSES)
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@_options_of(live=False)
def replay(files: tuple[str, ...], config: str | None, **options: Any) -> None:
    """Read pcap and pcapng FILEs and emit the events that live capture would have emitted.

    \b
      deckwire replay --decky 192.0.2.10=web night.pcap

    The frames go through the same kernel programs, so it needs root too. Lines go to stdout.
    """
    from deckwire.runtime.replay import replay_files  # noqa: PLC0415 - the same

    # The outputs in a configuration file are those of `run`.
    settings = _settings(config, {**options, "output": ("stdout",)})
    _need(settings, "no decky")
    sys.exit(replay_files(settings, files))


@cli.command(short_help="See it work.")
def demo() -> None:
    """Run attackers against deckies in a network of its own, and show the events.

    It needs root. It makes network namespaces, and removes them at the end.
    """
    from deckwire.demo import demo as run_demo  # noqa: PLC0415 - needs pyroute2

    sys.exit(run_demo())


@cli.command(short_help="Find the deckies of this host.")
@click.option("-i", "--interface", multiple=True, metavar="IFACE", help="Parent of the macvlans.")
@click.option(
    "--netns",
    metavar="NAME",
    help="Network namespace that has the interface.  [default: the current one]",
)
@click.option(
    "-c",
    "--config",
    metavar="FILE",
    help="TOML file of `deckwire run`: its interface and netns are used, unless they are given.",
)
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    help="Deckies file to keep up to date.  [default: print the deckies and end]",
)
def discover(
    interface: tuple[str, ...], netns: str | None, config: str | None, output: str | None
) -> None:
    """Find the macvlans of an interface in all network namespaces, with all their addresses.

    \b
      deckwire discover -i eth0
      deckwire discover -i eth0 -o /run/deckwire-discover/deckies.json

    A decky is named after its network namespace, or after the container that has it. With -o it
    looks every 10 s and when namespaces change, until SIGTERM or SIGINT, and replaces the file as a
    whole. `deckwire run --deckies FILE` reads it again when it changes.

    It needs root, or CAP_SYS_ADMIN and CAP_SYS_PTRACE. Without them it may not find all. Then it
    prints what it found, one line on stderr says so, and the exit status is 2.
    """
    from deckwire.runtime.discovery import discover as find  # noqa: PLC0415 - run needs none of it

    options = {"interface": interface, "netns": netns}
    settings = _settings(config, {key: value for key, value in options.items() if value})
    sys.exit(find(settings.interfaces, settings.netns, output))


@cli.command("check-config", short_help="Check a configuration file.")
@click.argument("file", default=_CONFIG, metavar="[FILE]")
def check_config(file: str) -> None:
    """Check a configuration file and the files that it names, without starting anything.

    FILE is /etc/deckwire/deckwire.toml if none is given. The exit status is 0 if no fault was
    found. Else it is 2, and stderr has one line for each fault:

    \b
      deckwire check-config && systemctl reload deckwire

    It does not look at interfaces: see `deckwire doctor`.
    """
    from deckwire.runtime.check import check_config as check  # noqa: PLC0415 - see run_live

    sys.exit(check(file))


@cli.command(short_help="Ask a running agent.")
@click.option("--json", "as_json", is_flag=True, help="Print all of it, counters too, as JSON.")
@click.option(
    "--runtime-dir",
    metavar="DIR",
    default="/run/deckwire",
    show_default=True,
    help="Runtime directory of the agent.",
)
def status(as_json: bool, runtime_dir: str) -> None:
    """Show what the running agent watches, and what is wrong.

    The exit status is 0 if all is well, and 1 if something is wrong or no agent runs. So it can be
    a health check:

    \b
      deckwire status || systemctl status deckwire
    """
    from deckwire.runtime.status import show_status  # noqa: PLC0415 - run needs none of it

    sys.exit(show_status(runtime_dir, as_json=as_json))


@cli.command(short_help="Check this host.")
@click.option("-i", "--interface", metavar="IFACE", help="Check this interface too.")
@click.option(
    "--netns",
    metavar="NAME",
    help="Network namespace that has the interface.  [default: the current one]",
)
@click.option(
    "--decky",
    "decky",
    multiple=True,
    metavar="ADDR[=NAME]",
    help="A decky on the interface. Addresses of it that are not given are reported.",
)
@click.option("--deckies", metavar="FILE", help="File of deckies, as of `deckwire run`.")
def doctor(
    interface: str | None, netns: str | None, decky: tuple[str, ...], deckies: str | None
) -> None:
    """Check whether this host can run `deckwire run`, and say what is missing.

    \b
      deckwire doctor -i eth0
      deckwire doctor -i eth0 --deckies deckies.txt
    """
    from deckwire.deckies import DeckiesFile, Registry, parse_option  # noqa: PLC0415 - the same
    from deckwire.doctor import doctor as examine  # noqa: PLC0415 - needs pyroute2

    try:
        registry = Registry(map(parse_option, decky))
    except ValueError as error:
        raise UsageError(f"--decky: {error}") from error
    if deckies is not None:
        registry = DeckiesFile(deckies, registry).read()
    if len(registry) and interface is None:
        raise UsageError("deckies without an interface; name it with -i")
    sys.exit(examine(interface, netns, registry if len(registry) else None))


def main() -> NoReturn:
    """Run the command of sys.argv, and end the process."""
    sys.stdout = _guarded(sys.stdout)
    try:
        try:
            cli.main(standalone_mode=False)
        finally:
            sys.stdout.flush()
    except click.exceptions.Abort:
        sys.exit(130)
    except click.UsageError as error:
        _fail(_with_advice(error))
    except click.ClickException as error:
        _fail(error.format_message())
    except UsageError as error:
        _fail(str(error), error.status)
    except BrokenPipeError:
        sys.exit(1)  # The reader of stdout has gone, so nobody misses the rest.
    sys.exit(0)


class _Stdout(io.FileIO):
    """Standard output. A write that fails ends the command with one line."""

    def write(self, data: Any, /) -> int:
        """Write some bytes; raises PassingError, or BrokenPipeError if the reader has gone."""
        try:
            return super().write(data)
        except OSError as error:
            # Python flushes again at exit: what is left goes nowhere.
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.fileno())
            if isinstance(error, BrokenPipeError):
                raise
            raise PassingError(f"stdout: {error.strerror}; make room and try again") from error


def _guarded(stdout: TextIO | None) -> TextIO:
    """Return the same output; its errors can be distinguished from all others."""
    if stdout is None:  # Its descriptor was closed at the start.
        return open(os.devnull, "w", encoding="utf-8")
    return io.TextIOWrapper(
        io.BufferedWriter(_Stdout(stdout.fileno(), "w", closefd=False)),
        encoding=stdout.encoding,
        errors=stdout.errors,
        line_buffering=stdout.isatty(),
    )


def _with_advice(error: click.UsageError) -> str:
    """The line about a wrong command line, and which help shows the right ones."""
    text = error.format_message()
    if error.ctx is None or "Did you mean" in text:
        return text
    return f"{text.removesuffix('.')}; see {error.ctx.command_path} --help"


def _fail(message: str, status: int = UsageError.status) -> NoReturn:
    text = " ".join(message.split())
    with suppress(OSError):  # The status remains if stderr cannot take the line.
        click.echo(f"deckwire: {text}", err=True)
    sys.exit(status)


def _live_settings(config: str | None, options: dict[str, Any]) -> Settings:
    settings = _settings(config, options)
    if not settings.interfaces and settings.decnet_state:
        settings = _with_decnets_interface(settings)
    _need(settings, "no ")
    return settings


def _with_decnets_interface(settings: Settings) -> Settings:
    from deckwire.config import check_interfaces  # noqa: PLC0415 - see run_live
    from deckwire.decnet_state import INTERFACE_VARIABLE, default_interface  # noqa: PLC0415

    name = default_interface(settings.deckies_file, os.environ)
    try:
        return replace(settings, interfaces=check_interfaces(name), found_interface=True)
    except ValueError as error:
        raise UsageError(f"the interface of {INTERFACE_VARIABLE} or the state: {error}") from error


def _settings(config: str | None, options: dict[str, Any]) -> Settings:
    from deckwire.config import merge, read_config  # noqa: PLC0415 - see run_live

    values = read_config(config) if config is not None else {}
    given = {name: value for name, value in options.items() if value not in (None, ())}
    return merge(values, given)


def _need(settings: Settings, what: str) -> None:
    """End with the first line about something that is lacking and begins with `what`."""
    from deckwire.config import lacking  # noqa: PLC0415 - see run_live

    for line in lacking(settings):
        if line.startswith(what):
            raise UsageError(line)

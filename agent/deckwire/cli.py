"""The command line: options in, one clear line and an exit status for what cannot be done."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

import click

from deckwire import __version__
from deckwire.errors import UsageError

if TYPE_CHECKING:
    from deckwire.config import Settings

_F = Callable[..., Any]


def _shared_options(command: _F) -> _F:
    """The options that `run` and `replay` have in common."""
    for option in reversed(
        (
            click.option("--decky", multiple=True, metavar="ADDR[=NAME]", help="A decky to watch."),
            click.option("--deckies", metavar="FILE", help="File of deckies."),
            click.option("--format", metavar="syslog|json", help="Form of the lines."),
            click.option("--sd-id", metavar="ID", help="SD-ID of syslog lines."),
            click.option("--app-name", metavar="NAME", help="APP-NAME of syslog lines."),
            click.option("--compat", metavar="decnet", help="The old sniffer's ja4 and ja4s."),
            click.option(
                "--dedup-ttl", type=float, metavar="S", help="Dedup window in seconds, 0: off."
            ),
            click.option(
                "--raw-fingerprints",
                is_flag=True,
                default=None,
                help="Tell ja4_r, ja4_o and ja4_ro too.",
            ),
            click.option("--p0f-db", metavar="FILE", help="A p0f.fp to take labels from."),
        )
    ):
        command = option(command)
    return command


# What click does without a command differs by its version, so the help is shown here.
@click.group(
    invoke_without_command=True,
    subcommand_metavar="COMMAND [ARGS]...",
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, prog_name="deckwire")
@click.pass_context
def cli(context: click.Context) -> None:
    """Watch the deckies of a MACVLAN from inside the kernel and tell what attackers do."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


@cli.command()
@click.option("-c", "--config", metavar="FILE", help="TOML configuration; options win over it.")
@click.option("-i", "--interface", multiple=True, metavar="IFACE", help="Where to attach.")
@click.option("--netns", metavar="NAME", help="Network namespace of the interfaces.")
@click.option(
    "--wait-interface/--no-wait-interface",
    default=None,
    help="Wait for an interface that does not exist yet.",
)
@click.option("--xdp", metavar="off|generic|native", help="Note SYNs before TC does.")
@click.option(
    "--output",
    multiple=True,
    metavar="stdout|file:PATH|unix:PATH|udp:HOST:PORT|tcp:HOST:PORT",
    help="Where lines go; may be repeated.",
)
@click.option(
    "--stats-interval",
    type=float,
    metavar="S",
    help="Seconds between capture_stats, 0: at the end.",
)
@_shared_options
def run(config: str | None, **options: Any) -> None:
    """Capture live traffic until SIGTERM or SIGINT."""
    from deckwire.runtime.run import run_live  # noqa: PLC0415 - replay and --help need none of it

    sys.exit(run_live(lambda: _live_settings(config, options)))


@cli.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("-c", "--config", metavar="FILE", help="TOML configuration; options win over it.")
@_shared_options
def replay(files: tuple[str, ...], config: str | None, **options: Any) -> None:
    """Tell what live capture would have told of pcap and pcapng FILEs."""
    from deckwire.runtime.replay import replay_files  # noqa: PLC0415 - the same

    # The outputs of a configuration are those of `run`.
    settings = _settings(config, {**options, "output": ("stdout",)})
    _need_deckies(settings)
    sys.exit(replay_files(settings, files))


@cli.command()
def demo() -> None:
    """Show it all on a lab of its own: attackers, deckies, events."""
    from deckwire.demo import demo as run_demo  # noqa: PLC0415 - needs pyroute2

    sys.exit(run_demo())


@cli.command()
@click.option("-i", "--interface", metavar="IFACE", help="Look at this interface too.")
@click.option("--netns", metavar="NAME", help="Network namespace of the interface.")
def doctor(interface: str | None, netns: str | None) -> None:
    """Say what this host has and lacks for `run`."""
    from deckwire.doctor import doctor as examine  # noqa: PLC0415 - needs pyroute2

    sys.exit(examine(interface, netns))


def main() -> NoReturn:
    """Runs the command of sys.argv, and ends the process."""
    try:
        cli.main(standalone_mode=False)
    except click.exceptions.Abort:
        sys.exit(130)
    except click.ClickException as error:
        _fail(error.format_message())
    except UsageError as error:
        _fail(str(error), error.status)
    except BrokenPipeError:
        # Whoever read stdout is gone; flushing again at exit would only raise again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    sys.exit(0)


def _fail(message: str, status: int = UsageError.status) -> NoReturn:
    text = " ".join(message.split())
    click.echo(f"deckwire: {text}", err=True)
    sys.exit(status)


def _live_settings(config: str | None, options: dict[str, Any]) -> Settings:
    settings = _settings(config, options)
    if not settings.interfaces:
        raise UsageError("no interface: name the MACVLAN or its parent with -i")
    _need_deckies(settings)
    return settings


def _settings(config: str | None, options: dict[str, Any]) -> Settings:
    from deckwire.config import merge, read_config  # noqa: PLC0415 - see run_live

    values = read_config(config) if config is not None else {}
    given = {name: value for name, value in options.items() if value not in (None, ())}
    return merge(values, given)


def _need_deckies(settings: Settings) -> None:
    if not len(settings.deckies) and settings.deckies_file is None:
        raise UsageError("no decky: name them with --decky ADDR[=NAME] or --deckies FILE")

"""The code blocks of the documentation and the files of deploy/, each read by its own program.

A block without a language is shell. The word after the three backticks names any other language.
Blocks of `text`, such as printed lines, are for people.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import click
import pytest

from deckwire.cli import cli
from deckwire.config import merge, read_config
from deckwire.deckies import parse_deckies
from deckwire.fingerprints import p0f_db
from tests.output.sinks.test_tls import NAME, Authority
from tests.support.shared import CHECKOUT
from tests.support.unpacked import environment, program, syslog_ng

PAGES = [CHECKOUT / "README.md", CHECKOUT / "CHANGELOG.md", *sorted(CHECKOUT.glob("docs/*.md"))]
BLOCK = re.compile(r"^( *)```(.*)\n((?:.*\n)*?)\1```$", re.MULTILINE)
DEPLOY = CHECKOUT / "deploy"
TARGETS = set(re.findall(r"^## ([a-z-]+): ", (CHECKOUT / "Makefile").read_text(), re.MULTILINE))
SEPARATORS = frozenset({"&&", "||", "|", ";", "&"})
COMMANDS = frozenset(
    {
        *("adduser", "apt", "apt-get", "bpftool", "cat", "cd", "chmod", "chown", "cp", "curl"),
        *(
            "deckwire",
            "dpkg",
            "env",
            "git",
            "grep",
            "install",
            "ip",
            "journalctl",
            "ln",
            "ls",
            "make",
            "mkdir",
        ),
        *("mv", "pip", "python", "python3", "rm", "sed", "setpriv", "sudo", "sysctl", "systemctl"),
        *("systemd-analyze", "systemd-sysusers", "tail", "tc", "userdel", "usermod", "vagrant"),
    }
)
"""Programs that the documentation may ask for."""


class Snippet(NamedTuple):
    """A code block."""

    where: str
    language: str
    text: str


def snippets() -> Iterator[Snippet]:
    for page in PAGES:
        content = page.read_text()
        for block in BLOCK.finditer(content):
            line = content[: block.start()].count("\n") + 1
            text = re.sub(f"^{block[1]}", "", block[3], flags=re.MULTILINE)
            where = f"{page.relative_to(CHECKOUT)}:{line}"
            yield Snippet(where, block[2].strip() or "sh", text)


SNIPPETS = list(snippets())


def of(language: str) -> pytest.MarkDecorator:
    """The test is run for each block of this language."""
    found = [snippet for snippet in SNIPPETS if snippet.language == language]
    assert found, f"no block of {language}"
    return pytest.mark.parametrize("snippet", found, ids=lambda snippet: snippet.where)


def checked(argv: list[str | Path], said: str = "") -> None:
    """Run a program that checks a file; nothing that it prints may match `said`."""
    done = subprocess.run(argv, capture_output=True, text=True, check=False, env=environment())
    printed = done.stdout + done.stderr
    assert done.returncode == 0, printed
    assert not said or not re.search(said, printed), printed


def needed(name: str) -> str:
    found = program(name)
    if found is None:
        pytest.skip(f"{name} is missing; `make setup` installs it, or `make test` unpacks it")
    return found


def words_of(text: str) -> Iterator[list[str]]:
    """The words of each simple command of a script."""
    for line in text.replace("\\\n", " ").splitlines():
        command: list[str] = []
        for word in shlex.split(line, comments=True):
            if word in SEPARATORS:
                yield command
                command = []
            else:
                command.append(word)
        if command:
            yield command


def test_every_block_has_a_language_that_is_checked() -> None:
    known = {
        *("sh", "text", "toml", "json", "json deckies", "deckies", "p0f", "logrotate", "rsyslog"),
        *("syslog-ng", "prometheus", "unit"),
    }
    assert {s.where: s.language for s in SNIPPETS if s.language not in known} == {}


@of("sh")
def test_shell_is_shell_and_its_programs_exist(snippet: Snippet) -> None:
    checked(["bash", "-n", "-c", snippet.text])
    # A quoted text over several lines is bash's alone.
    if any(line.count('"') % 2 for line in snippet.text.splitlines()):
        return
    for command in words_of(snippet.text):
        words = [word for word in command if word != "sudo"]
        name = words[0].rpartition("/")[2]
        assert name in COMMANDS or (CHECKOUT / words[0]).exists(), words
        if name == "make":
            targets = [word for word in words[1:] if "=" not in word and not word.startswith("-")]
            assert set(targets) <= TARGETS, words
        if name == "deckwire" and "…" not in words:
            check_options(words[1:])


def check_options(words: list[str]) -> None:
    """The command line parses, and its settings are allowed. Files need not exist."""
    name, *arguments = words
    command = cli.commands[name]  # type: ignore[attr-defined]
    with click.Context(command) as parent:
        context = command.make_context(name, arguments, parent=parent)
    if name == "run":
        given = {key: value for key, value in context.params.items() if value not in (None, ())}
        given.pop("config", None)
        merge({}, given)


@of("toml")
def test_toml_is_a_configuration(snippet: Snippet, tmp_path: Path) -> None:
    file = tmp_path / "deckwire.toml"
    # A user that this host need not have.
    file.write_text(snippet.text.replace("vector:", "root:"))
    merge(read_config(file), {})


@of("json")
def test_json_is_json(snippet: Snippet) -> None:
    for line in snippet.text.splitlines():
        json.loads(line)


@pytest.mark.parametrize(
    "snippet",
    [snippet for snippet in SNIPPETS if snippet.language in {"deckies", "json deckies"}],
    ids=lambda snippet: snippet.where,
)
def test_deckies_are_deckies(snippet: Snippet) -> None:
    assert len(parse_deckies(snippet.text.encode(), snippet.where))


@of("p0f")
def test_signatures_are_signatures(snippet: Snippet) -> None:
    p0f_db.parse(snippet.text.encode(), snippet.where)


@of("rsyslog")
def test_rsyslog_accepts_its_configuration(snippet: Snippet, tmp_path: Path) -> None:
    check_rsyslog(tmp_path, snippet.text)


def with_certificates(folder: Path, text: str) -> str:
    """The text with the paths of certificates that exist."""
    ours = Authority(folder, "ca").certify(NAME)
    shutil.copy(ours.certificate, folder / "logs.pem")
    shutil.copy(ours.key, folder / "logs.key")
    return text.replace("/etc/ssl/deckwire", str(folder))


def check_rsyslog(folder: Path, text: str) -> None:
    """rsyslog objects to a configuration without an action, so there is always one."""
    file = folder / "rsyslog.conf"
    place = f'global(workDirectory="{folder}")\n'
    text = with_certificates(folder, text)
    file.write_text(f'{place}{text}\naction(type="omfile" file="/dev/null")\n')
    checked([needed("rsyslogd"), "-N1", "-f", file], said="(?i)error|warning|not found")


@of("syslog-ng")
def test_syslog_ng_accepts_its_configuration(snippet: Snippet, tmp_path: Path) -> None:
    command = syslog_ng()
    if command is None:
        pytest.skip("syslog-ng is missing; `make test` unpacks it")
    # What stands in conf.d is included by a file with the version.
    (tmp_path / "syslog-ng.conf").write_text(
        f"@version: 3.35\n{with_certificates(tmp_path, snippet.text)}"
    )
    checked([*command, "-s", "-f", tmp_path / "syslog-ng.conf"])


@of("logrotate")
def test_logrotate_accepts_its_configuration(snippet: Snippet, tmp_path: Path) -> None:
    check_logrotate(tmp_path, snippet.text)


def check_logrotate(folder: Path, text: str) -> None:
    """Without the user deckwire, which this machine need not have."""
    file = folder / "logrotate.conf"
    file.write_text(text.replace("su deckwire deckwire", "su root root"))
    file.chmod(0o644)
    argv = [needed("logrotate"), "--debug", "--state", folder / "state", file]
    checked(argv, said="(?im)^error|unknown")


@of("prometheus")
def test_prometheus_accepts_its_configuration(snippet: Snippet, tmp_path: Path) -> None:
    file = tmp_path / "prometheus.yml"
    file.write_text(snippet.text)
    checked([needed("promtool"), "check", "config", "--syntax-only", file])


@of("unit")
def test_systemd_accepts_drop_ins_of_the_unit(snippet: Snippet, tmp_path: Path) -> None:
    check_unit(tmp_path, "deckwire.service", snippet.text)


def check_unit(folder: Path, unit: str, drop_in: str = "") -> None:
    """The unit with a drop-in, without complaint. Its program need not be installed."""
    text = (DEPLOY / unit).read_text()
    (folder / unit).write_text(re.sub("/opt/deckwire/bin/deckwire", "/bin/true", text))
    if drop_in:
        (folder / f"{unit}.d").mkdir()
        (folder / f"{unit}.d/local.conf").write_text(drop_in)
    argv = [needed("systemd-analyze"), "verify", folder / unit]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    # It also reports what it finds in other units of this machine.
    said = [line for line in (done.stdout + done.stderr).splitlines() if unit in line]
    assert said == []


def test_the_units_of_deploy_are_units(tmp_path: Path) -> None:
    for unit in DEPLOY.glob("*.service"):
        check_unit(tmp_path, unit.name)


def test_the_rsyslog_file_of_deploy_is_accepted(tmp_path: Path) -> None:
    check_rsyslog(tmp_path, (DEPLOY / "deckwire-rsyslog.conf").read_text())


def test_the_logrotate_file_of_deploy_is_accepted(tmp_path: Path) -> None:
    check_logrotate(tmp_path, (DEPLOY / "deckwire.logrotate").read_text())


def test_the_configuration_of_deploy_lacks_only_the_interface_and_deckies(tmp_path: Path) -> None:
    values = read_config(DEPLOY / "deckwire.toml")
    settings = merge(values, {})
    assert settings.interfaces == ()
    assert settings.deckies_file == os.path.join(DEPLOY, "deckies.txt")
    assert len(parse_deckies((DEPLOY / "deckies.txt").read_bytes(), "deckies.txt")) == 0
    # What stands there as a comment is right too.
    text = re.sub("^#(?=[a-z_]+ = )", "", (DEPLOY / "deckwire.toml").read_text(), flags=re.M)
    (tmp_path / "deckwire.toml").write_text(text)
    assert merge(read_config(tmp_path / "deckwire.toml"), {}).interfaces == ("eth0",)
    shown = re.sub("^# (?=[0-9])", "", (DEPLOY / "deckies.txt").read_text(), flags=re.M)
    assert len(parse_deckies(shown.encode(), "deckies.txt")) == 3


Check = Callable[[Path, str], None]


@pytest.mark.parametrize(
    ("check", "text"),
    [
        (check_rsyslog, 'input(type="imnothing")\n'),
        (check_logrotate, "/var/log/deckwire/*.log {\n    dayly\n}\n"),
        (lambda folder, text: check_unit(folder, "deckwire.service", text), "[Service]\nNothing=1"),
    ],
    ids=["rsyslog", "logrotate", "unit"],
)
def test_a_wrong_one_is_found(check: Check, text: str, tmp_path: Path) -> None:
    with pytest.raises(AssertionError):
        check(tmp_path, text)

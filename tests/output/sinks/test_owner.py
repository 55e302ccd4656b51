"""Owner and mode of files that an output makes."""

from __future__ import annotations

import grp
import os
import pwd
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from deckwire.lab.namespaces import PATIENCE_SECONDS
from deckwire.output.sinks.file import FileSink
from deckwire.output.sinks.owner import Creation, Owner, parse_mode, parse_owner
from tests.support.rsyslog_server import wait_until

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: gives files away")

NOBODY = pwd.getpwnam("nobody")
ADM = grp.getgrnam("adm")


def facts(path: Path) -> tuple[int, int, int]:
    status = path.stat()
    return status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)


def test_an_owner_is_a_user_and_a_group() -> None:
    assert parse_owner("nobody") == Owner(NOBODY.pw_uid, NOBODY.pw_gid)
    assert parse_owner("nobody:adm") == Owner(NOBODY.pw_uid, ADM.gr_gid)
    assert parse_owner(f"{NOBODY.pw_uid}") == Owner(NOBODY.pw_uid, NOBODY.pw_gid)
    assert parse_owner("4242") == Owner(4242, -1)
    assert parse_owner("4242:4343") == Owner(4242, 4343)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("no-such-user", "this host has no user 'no-such-user'"),
        ("nobody:no-such-group", "this host has no group 'no-such-group'"),
        ("", "no user ''"),
        ("nobody:", "no group ''"),
        (":adm", "no user ''"),
        ("4294967295", "is no id; use a number up to 4294967294"),
        ("0:9999999999", "is no id"),
        ("-1", "no user '-1'"),
        ("a\0b", "no user"),
        ("\udc80", "no user"),
        ("nobody:\udc80", "no group"),
    ],
)
def test_a_wrong_owner_is_refused(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match="owner: ") as caught:
        parse_owner(text)
    assert problem in str(caught.value)


def test_a_mode_is_octal() -> None:
    assert parse_mode("0640") == parse_mode("640") == 0o640
    for wrong in ("", "64", "0o640", "0888", "1640", "06400", "٦٤٠"):
        with pytest.raises(ValueError, match="no mode; use three octal digits"):
            parse_mode(wrong)
    for wrong in ("0000", "0440", "0240"):
        with pytest.raises(ValueError, match="keeps the owner out"):
            parse_mode(wrong)


@needs_root
def test_a_new_file_has_its_owner_and_mode_also_after_a_rotation(tmp_path: Path) -> None:
    path, rotated = tmp_path / "events.log", tmp_path / "events.log.1"
    creation = Creation(Owner(NOBODY.pw_uid, ADM.gr_gid), 0o664)
    sink = FileSink(str(path), creation=creation)
    expected = NOBODY.pw_uid, ADM.gr_gid, 0o664
    assert facts(path) == expected
    sink.start()
    path.rename(rotated)
    sink.reopen()
    wait_until(path.exists, "the file is made anew")
    wait_until(lambda: facts(path) == expected, "it has its owner and mode")
    sink.close(PATIENCE_SECONDS)
    path.unlink()


@needs_root
def test_a_file_that_is_there_keeps_what_it_has(tmp_path: Path) -> None:
    path = tmp_path / "events.log"
    path.touch(0o600)
    before = facts(path)
    FileSink(str(path), creation=Creation(Owner(NOBODY.pw_uid, ADM.gr_gid), 0o644)).close(0)
    assert facts(path) == before


@needs_root
def test_what_root_makes_belongs_to_the_owner_of_its_directory(tmp_path: Path) -> None:
    """Else the workers that share the directory could not write to the log."""
    os.chown(tmp_path, NOBODY.pw_uid, ADM.gr_gid)
    path = tmp_path / "events.log"
    FileSink(str(path)).close(0)
    assert facts(path) == (NOBODY.pw_uid, ADM.gr_gid, 0o640)


@needs_root
def test_a_link_that_leads_nowhere_makes_its_target_in_the_targets_directory(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    os.chown(folder, NOBODY.pw_uid, ADM.gr_gid)
    link = tmp_path / "link"
    link.symlink_to(folder / "events.log")
    FileSink(str(link)).close(0)
    assert link.is_symlink()
    assert facts(folder / "events.log")[:2] == (NOBODY.pw_uid, ADM.gr_gid)


def test_the_default_mode_obeys_the_umask_and_a_set_one_does_not(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        FileSink(str(tmp_path / "default")).close(0)
        FileSink(str(tmp_path / "set"), creation=Creation(mode=0o644)).close(0)
    finally:
        os.umask(before)
    assert facts(tmp_path / "default")[2] == 0o600
    assert facts(tmp_path / "set")[2] == 0o644
    FileSink(str(tmp_path / "usual")).close(0)
    assert facts(tmp_path / "usual")[2] == 0o640 & ~before


@needs_root
def test_a_file_that_cannot_be_given_away_is_not_left(tmp_path: Path) -> None:
    """The next start must not find one with the wrong owner, and be content."""
    tmp_path.chmod(0o777)
    path = tmp_path / "events.log"
    child = os.fork()
    if not child:
        # No assertion here: pytest must not run twice.
        status = 1
        try:
            # Only root may pass the directories above.
            os.chdir(tmp_path)
            os.setgroups([])
            os.setresgid(NOBODY.pw_gid, NOBODY.pw_gid, NOBODY.pw_gid)
            os.setresuid(NOBODY.pw_uid, NOBODY.pw_uid, NOBODY.pw_uid)
            FileSink("events.log", creation=Creation(Owner(0, 0)))
        except PermissionError as error:
            status = 0 if "cannot belong to user 0, group 0" in str(error) else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert not path.exists()


@needs_root
def test_a_root_that_may_not_give_files_away_starts_in_its_own_directory(tmp_path: Path) -> None:
    """The group of the directory is then not the file's, but that stops no start."""
    os.chown(tmp_path, 0, ADM.gr_gid)
    path = tmp_path / "events.log"
    code = (
        "import os; from deckwire.output.sinks.file import FileSink\n"
        f"os.setgroups([]); FileSink({str(path)!r}).close(0)"
    )
    done = subprocess.run(
        ["setpriv", "--bounding-set", "-chown", "--inh-caps", "-all", sys.executable, "-c", code],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert facts(path) == (0, 0, 0o640)

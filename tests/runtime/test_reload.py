"""What a reload changes: planned as a whole or refused as a whole."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path

import pytest

from deckwire.config import Budgets, Settings
from deckwire.deckies import DeckiesError, DeckiesFile, Registry, parse_option
from deckwire.decnet_state import StateFile
from deckwire.errors import UsageError
from deckwire.events.event import Event
from deckwire.kernel.user import User
from deckwire.output.outputs import read_outputs
from deckwire.output.sinks.fanout import Output
from deckwire.runtime.preparation import live_kernel_settings, open_outputs
from deckwire.runtime.reload import LIVE, Plan, plan_deckies, plan_settings
from deckwire.tables.deckies import DeckyTables
from deckwire.tables.tables import Tables
from tests.support.replaying import ReplayLab

pytestmark = pytest.mark.root

WEB = parse_option("10.0.0.1=web")


@pytest.fixture(scope="module")
def lab() -> Iterator[ReplayLab]:
    if os.geteuid():
        pytest.skip("needs root: loads programs")
    with ReplayLab() as made:
        yield made


@pytest.fixture
def tables(lab: ReplayLab) -> DeckyTables:
    return DeckyTables(lab.loaded.maps)


@pytest.fixture
def before(tmp_path: Path) -> Settings:
    (tmp_path / "deckies").write_text("10.0.0.1 web\n")
    return Settings(
        interfaces=("eth0",),
        deckies_file=str(tmp_path / "deckies"),
        outputs=read_outputs([f"file:{tmp_path}/log"], ""),
    )


class Running:
    """What an agent with these settings has."""

    def __init__(self, settings: Settings, tables: DeckyTables) -> None:
        assert settings.deckies_file is not None
        kind = StateFile if settings.decnet_state else DeckiesFile
        self.settings = settings
        self.file = kind(settings.deckies_file, settings.deckies)
        self.registry = self.file.read()
        self.outputs: tuple[Output, ...] = open_outputs(settings)
        self.tables = tables

    def plan(self, **changes: object) -> Plan:
        settings = replace(self.settings, **changes)  # type: ignore[arg-type]
        return plan_settings(
            *(lambda: settings, self.settings, self.file, self.registry, self.outputs, self.tables)
        )


@pytest.fixture
def running(before: Settings, tables: DeckyTables) -> Running:
    return Running(before, tables)


def test_nothing_changes_without_a_change(running: Running) -> None:
    plan = running.plan()
    assert (plan.changed, plan.outputs) == ((), None)
    assert plan.registry is running.registry
    assert plan.file is running.file


def test_every_live_field_is_one_of_the_settings() -> None:
    assert {field.name for field in fields(Settings)} >= LIVE


def test_fixed_settings_are_named_and_nothing_else_changes(
    running: Running, tmp_path: Path
) -> None:
    outputs = read_outputs([f"file:{tmp_path}/new"], "")
    with pytest.raises(UsageError) as caught:
        running.plan(interfaces=("eth1",), bus="/run/bus", dedup_ttl=1.0, outputs=outputs)
    assert str(caught.value) == (
        "reload refused: interface, bus cannot change while the agent runs; restart it"
    )
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("name", "other"), [(None, "nobody"), ("nobody", None), ("nobody", "daemon")]
)
def test_another_user_refuses_the_whole_reload(
    before: Settings, tables: DeckyTables, tmp_path: Path, name: str | None, other: str | None
) -> None:
    """The user has changed for good: nothing could be opened as another one."""
    user, wanted = (User.named(one) if one is not None else None for one in (name, other))
    running = Running(replace(before, user=user), tables)
    outputs = read_outputs([f"file:{tmp_path}/new"], "")
    with pytest.raises(UsageError) as caught:
        running.plan(user=wanted, dedup_ttl=1.0, outputs=outputs)
    assert str(caught.value) == (
        "reload refused: user cannot change while the agent runs; restart it"
    )
    assert not (tmp_path / "new").exists()


def test_live_settings_are_named_by_their_keys(running: Running) -> None:
    plan = running.plan(dedup_ttl=1.0, budgets=Budgets(syn_burst=7), idle_timeout=9.0)
    assert plan.changed == ("dedup_ttl", "idle_timeout", "budgets")
    assert plan.changes_dedup()
    assert plan.outputs is None


def test_an_output_that_stays_keeps_its_sink(running: Running, tmp_path: Path) -> None:
    outputs = read_outputs([f"file:{tmp_path}/new", f"file:{tmp_path}/log,events=tls_*"], "")
    plan = running.plan(outputs=outputs, format="json")
    assert plan.outputs is not None
    assert [output.sink in [o.sink for o in running.outputs] for output in plan.outputs] == [
        False,
        True,
    ]
    line = plan.outputs[1].form.line(Event("tls_session", 0, "web", (("n", 1),)))
    assert line.startswith(b"{")


def test_a_wrong_deckies_file_closes_what_was_opened(running: Running, tmp_path: Path) -> None:
    (tmp_path / "deckies").write_text("10.0.0.999 web\n")
    before = os.listdir("/proc/self/fd")
    with pytest.raises(DeckiesError, match=r"10\.0\.0\.999"):
        running.plan(outputs=read_outputs([f"file:{tmp_path}/new"], ""))
    assert os.listdir("/proc/self/fd") == before
    # It is reported once.
    assert not running.file.changed()


def test_the_deckies_of_options_and_another_file_are_read(running: Running, tmp_path: Path) -> None:
    more = parse_option("10.0.0.2=mail")
    plan = running.plan(deckies=Registry([more]))
    assert list(plan.registry) == [more, WEB]
    assert plan.file is not None
    assert not plan.file.changed()
    (tmp_path / "other").write_text("10.0.0.3 files\n")
    plan = running.plan(deckies_file=str(tmp_path / "other"))
    assert [decky.name for decky in plan.registry] == ["files"]
    plan = running.plan(deckies_file=None, deckies=Registry([more]))
    assert (plan.file, list(plan.registry)) == (None, [more])


def test_the_deckies_file_alone_is_read(running: Running, tmp_path: Path) -> None:
    plan = plan_deckies(running.file, running.registry, running.tables)
    assert plan.registry is running.registry
    (tmp_path / "deckies").write_text("10.0.0.2 mail\n")
    plan = plan_deckies(running.file, running.registry, running.tables)
    assert (plan.settings, [decky.name for decky in plan.registry]) == (None, ["mail"])


def test_a_state_that_is_half_written_does_not_count_as_missing(
    before: Settings, tables: DeckyTables, tmp_path: Path
) -> None:
    """Its first reading takes any content, and a reload is none."""
    path = tmp_path / "state.json"
    path.write_text('{"config": {"deckies": [{"name": "web", "ip": "10.0.0.1"}]}}')
    settings = replace(before, deckies_file=str(path), decnet_state=True, found_interface=True)
    running = Running(settings, tables)
    path.write_text('{"config": {"deckies": [')
    for deckies in ((), (parse_option("10.0.0.2=mail"),)):
        with pytest.raises(DeckiesError, match="not a whole JSON object"):
            running.plan(deckies=Registry(deckies))


def test_the_interface_that_decnet_named_is_read_once(
    before: Settings, tables: DeckyTables
) -> None:
    running = Running(replace(before, found_interface=True), tables)
    assert running.plan(interfaces=("eth7",)).changed == ()
    with pytest.raises(UsageError, match="interface cannot change"):
        running.plan(interfaces=("eth7",), found_interface=False)


def test_the_kernel_gets_new_settings_and_keeps_its_seed(lab: ReplayLab) -> None:
    tables = Tables(lab.loaded.maps)
    seed = tables.seed
    for ttl, suppresses in ((300.0, True), (0.0, False)):
        tables.change_settings(live_kernel_settings(Settings(dedup_ttl=ttl)))
        assert tables.suppressing is suppresses
        assert Tables(lab.loaded.maps).suppressing is suppresses
        assert Tables(lab.loaded.maps).seed == seed

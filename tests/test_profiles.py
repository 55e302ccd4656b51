"""Profiles: what they set, and what overrides them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from deckwire.config import ConfigError, Settings, merge, read_config
from deckwire.events.names import DECNET_EVENTS
from deckwire.options import OPTIONS, PROFILE_NAMES
from deckwire.output.outputs import OutputSettings
from deckwire.profiles import PROFILES, Row

DECNET_LOG = "file:/var/log/decnet/decnet.log"


def decnet(**options: object) -> Settings:
    return merge({}, {"profile": "decnet", **options})


@pytest.mark.parametrize("name", PROFILE_NAMES)
def test_each_row_is_a_key_with_a_good_value(name: str) -> None:
    settings = {option.key: option.setting for option in OPTIONS}
    plain, profiled = merge({}, {}), merge({}, {"profile": name})
    rows = PROFILES[name].rows
    assert len({row.key for row in rows}) == len(rows)
    for row in rows:
        alone = merge({}, {row.key: row.value})
        if row.key != "output":
            assert getattr(profiled, settings[row.key]) == getattr(alone, settings[row.key])
    others = set(settings.values()) - {settings[row.key] for row in rows} - {"profile"}
    for setting in others:
        assert getattr(profiled, setting) == getattr(plain, setting)


@pytest.mark.parametrize(
    "row", [row for profile in PROFILES.values() for row in profile.rows], ids=lambda row: row.key
)
def test_each_row_is_overridden_by_the_file_and_by_an_option(tmp_path: Path, row: Row) -> None:
    others = {
        "format": "json",
        "sd_id": "mine@1",
        "app_name": "mine",
        "procid": "7",
        "output": ["stdout"],
        "deckies": "/x/deckies.txt",
        "decnet_state": False,
        "wait_interface": False,
        "sequences": False,
        "own_host": "report",
        "outbound_source": "decky",
        "lateral": "drop",
        "bus": "/x/bus.sock",
    }
    setting = next(option.setting for option in OPTIONS if option.key == row.key)
    value = others[row.key]
    expected = getattr(merge({}, {row.key: value}), setting)
    assert getattr(decnet(), setting) != expected
    assert getattr(decnet(**{row.key: value}), setting) == expected
    path = tmp_path / "deckwire.toml"
    path.write_text(f'profile = "decnet"\n{row.key} = {json.dumps(value)}\n')
    assert getattr(merge(read_config(path), {}), setting) == expected
    path.write_text(f"{row.key} = {json.dumps(value)}\n")
    assert getattr(merge(read_config(path), {"profile": "decnet"}), setting) == expected


def test_decnets_log_gets_what_decnet_knows_and_a_twin() -> None:
    log, stdout = decnet().outputs
    assert log == OutputSettings(
        to=DECNET_LOG,
        events=DECNET_EVENTS,
        own=(("twin", "decnet-json"), ("mode", "0640")),
    )
    assert stdout == OutputSettings("stdout", events=("capture_*",))


def test_a_file_named_as_decnets_is_decnets_also_if_the_operator_names_it() -> None:
    outputs = decnet(
        output=(
            "file:/x/decnet.log,owner=4242",
            "file:/x/decnet-2.log,events=tls_*,twin=off,mode=0600",
            "file:/x/all.log",
            "unix:/x/decnet.log",
        )
    ).outputs
    assert outputs[0].events == DECNET_EVENTS
    assert dict(outputs[0].own) == {"owner": "4242", "twin": "decnet-json", "mode": "0640"}
    assert outputs[1].events == ("tls_*",)
    assert dict(outputs[1].own) == {"twin": "off", "mode": "0600"}
    assert outputs[2:] == (OutputSettings("file:/x/all.log"), OutputSettings("unix:/x/decnet.log"))


def test_without_the_profile_a_name_means_nothing() -> None:
    (output,) = merge({}, {"output": (DECNET_LOG,)}).outputs
    assert output == OutputSettings(DECNET_LOG)


@pytest.mark.parametrize(
    ("outputs", "problem"),
    [
        (("file:/x/decnet.log,format=json",), "leave the format out, or set twin=off"),
        (("file:/x/decnet.log", "file:/x/decnet.json"), "'/x/decnet.json' is given twice"),
    ],
)
def test_what_does_not_go_together_is_refused(outputs: tuple[str, ...], problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        decnet(output=outputs)
    assert str(caught.value).startswith("profile decnet: ")
    assert problem in str(caught.value)


def test_an_unknown_profile_is_refused() -> None:
    with pytest.raises(ConfigError, match="--profile: 'zeek' is unknown; use decnet"):
        merge({}, {"profile": "zeek"})

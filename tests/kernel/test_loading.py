from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from struct import pack, unpack
from typing import Any

import pytest

from deckwire.kernel import cpus
from deckwire.kernel.loader_process import LoadError
from deckwire.kernel.loading import LoadRequest, bpf_directory, load
from tests.kernel.conftest import PROGRAMS, Load


def test_the_sources_are_in_the_package() -> None:
    assert (bpf_directory() / "abi.h").is_file()
    assert (bpf_directory() / "shim/include/linux/kconfig.h").is_file()


@pytest.mark.root
def test_the_reply_describes_what_was_loaded(start: Load) -> None:
    loaded = start(ring_bytes=1 << 17)
    assert set(loaded.programs) == {"tc_ingress", "tc_egress", "reassembled"}
    assert set(loaded.maps) >= {"numbers", "hits", "samples", "vepa_parents"}
    assert list(loaded.rings.cpus) == cpus.online()
    assert (loaded.headers, loaded.attachments) == ("shim", [])
    assert loaded.load_ms > 0


@pytest.mark.root
def test_headers_of_the_working_directory_are_not_compiled(
    start: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "programs.c"
    source.write_text(f'#include "limits.h"\n{PROGRAMS.read_text()}')
    other = tmp_path / "other"
    other.mkdir()
    (other / "limits.h").write_text("#error not this one\n")
    monkeypatch.chdir(other)
    assert start(source=source).programs


@pytest.mark.root
def test_everything_works_after_the_loader_has_ended(start: Load) -> None:
    before = children()
    loaded = start(programs=("tc_ingress", "submit"), ring_bytes=1 << 17)
    assert children() == before
    loaded.programs["submit"].test_run(bytes(100), tstamp=9)
    assert [data[:8] for _, data in loaded.rings.drain()] == [pack("=Q", 9)]


@pytest.mark.root
def test_options_reach_the_program(start: Load) -> None:
    loaded = start(
        programs=("context",),
        table_sizes={"MAX_NUMBERS": 7},
        settings={"second": 1 << 40, "first": 3},
    )
    assert loaded.maps["numbers"].max_entries == 7
    value = loaded.maps["settings"].lookup(bytes(4))
    assert value is not None
    assert unpack("=QQ", value) == (3, 1 << 40)
    assert loaded.programs["context"].test_run(bytes(60)).verdict == 8  # no replay clock


@pytest.mark.root
def test_close_closes_every_descriptor(start: Load) -> None:
    before = set(os.listdir("/proc/self/fd"))
    loaded = load(LoadRequest(source=PROGRAMS, jumps=(), ring_bytes=1 << 17))
    loaded.close()
    assert set(os.listdir("/proc/self/fd")) == before


@pytest.mark.root
def test_the_agent_stays_small(tmp_path: Path) -> None:
    """In a process of its own: pytest's is large."""
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from deckwire.kernel.loading import LoadRequest, load\n"
        f"source = Path({str(PROGRAMS)!r})\n"
        "loaded = load(LoadRequest(source=source, jumps=(), ring_bytes=1 << 20))\n"
        "assert not {'bcc', 'pyroute2'} & set(sys.modules)\n"
        "print(Path('/proc/self/status').read_text())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True
    )
    (rss,) = re.findall(r"VmRSS:\s+(\d+) kB", done.stdout)
    assert int(rss) < 24_000


@pytest.fixture(autouse=True)
def logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGS_DIRECTORY", str(tmp_path))


def broken(text: str, tmp_path: Path) -> Path:
    path = tmp_path / "broken.c"
    path.write_text(text)
    return path


@pytest.mark.root
@pytest.mark.parametrize(
    ("source", "line", "logged"),
    [
        pytest.param(
            "int tc_ingress(void *ctx) { return nonsense; }",
            r"^broken\.c does not compile: .*:1:36: error: .*undeclared.*nonsense",
            "nonsense",
            id="compiler",
        ),
        pytest.param(
            "BPF_PERF_OUTPUT(samples);\n"
            "int tc_ingress(struct __sk_buff *skb) {\n"
            "int *nowhere = (int *)(long)skb->len;\n"
            "return *nowhere; }",
            r"^the kernel refused the program tc_ingress on Linux .*: EACCES, R\d invalid mem ",
            "\n; return *nowhere; }",
            id="verifier",
        ),
        pytest.param(
            "int tc_ingress(void *ctx) { return -1; }",
            "^no perf event array is named samples: .*; install Deckwire again$",
            "",
            id="no ring map",
        ),
        pytest.param(
            "BPF_PERF_OUTPUT(samples);\nBPF_HASH(table, u64, u64, 4000000000);\n"
            "int tc_ingress(void *ctx) { return -1; }",
            "^broken.c does not compile",
            "",
            id="map too large",
        ),
    ],
)
def test_a_program_that_fails_is_one_line(
    source: str, line: str, logged: str, tmp_path: Path
) -> None:
    request = LoadRequest(source=broken(source, tmp_path), programs=("tc_ingress",), jumps=())
    with pytest.raises(LoadError) as caught:
        load(request)
    assert re.search(line, str(caught.value))
    assert "\n" not in str(caught.value)
    if logged:
        log = caught.value.log
        assert log is not None
        assert str(caught.value).endswith(f"; the whole log is in {log}")
        assert logged in log.read_text()


REFUSED_TWICE = (
    "BPF_PERF_OUTPUT(samples);\nBPF_HASH(table, u32, u32, 16);\n"
    "int tc_ingress(struct __sk_buff *skb) { return *(int *)(long)skb->len; }\n"
    "int tc_egress(struct __sk_buff *skb) {\n"
    "u32 key = skb->len; u32 *value = table.lookup(&key); return *value; }\n"
    "int sound(struct __sk_buff *skb) { return -1; }\n"
)


@pytest.mark.root
@pytest.mark.parametrize(
    ("programs", "line"),
    [
        (("sound", "tc_ingress", "tc_egress"), r"program tc_ingress .*access '(scalar|inv)'"),
        (("sound", "tc_egress", "tc_ingress"), r"program tc_egress .*'map_value_or_null'"),
    ],
)
def test_the_first_of_two_refused_programs_is_named_with_its_own_cause(
    programs: tuple[str, ...], line: str, tmp_path: Path
) -> None:
    request = LoadRequest(source=broken(REFUSED_TWICE, tmp_path), programs=programs, jumps=())
    with pytest.raises(LoadError, match=line):
        load(request)


@pytest.mark.root
@pytest.mark.parametrize(
    ("source", "line"),
    [
        (REFUSED_TWICE, "EACCES, R1 invalid mem access"),
        ("int tc_ingress(void *ctx) { return nonsense; }", "error: use of undeclared"),
    ],
)
def test_the_logs_do_not_reach_the_console(source: str, line: str, tmp_path: Path) -> None:
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from deckwire.kernel.loading import LoadRequest\n"
        "from deckwire.loader.errors import LoaderError\n"
        "from deckwire.loader.module import compile_module, load_programs\n"
        "try:\n"
        "    module = compile_module(LoadRequest(source=Path(sys.argv[1])).body())\n"
        "    load_programs(module, {'tc_ingress': 'SCHED_CLS'})\n"
        "except LoaderError as error:\n"
        "    print(error)\n"
        "print('still there', file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(broken(source, tmp_path))],
        check=True,
        capture_output=True,
        text=True,
    )
    assert line in done.stdout
    assert done.stdout.count("\n") == 1
    assert done.stderr == "still there\n"


@pytest.mark.root
@pytest.mark.parametrize(
    ("options", "line"),
    [
        (
            {"settings": {"third": 1}},
            "^struct settings has no field third: .*; install Deckw",
        ),
        ({"interfaces": ("nowhere",)}, "^no interface nowhere in this network namespace"),
        ({"interfaces": ("\x1b[31m",)}, r"^no interface \\x1b\[31m in this"),
        ({"interfaces": ("lo",)}, "^lo is the loopback: .*; name the parent of the MACVLAN$"),
        (
            {"netns": "dwkern-none"},
            "^no network namespace dwkern-none: /run/netns/dwkern-none .*; see ip netns list$",
        ),
        (
            {"netns": "/dev/null"},
            "^/dev/null is no network namespace: setns: Invalid argument; see ip netns list$",
        ),
    ],
)
def test_a_request_that_cannot_be_met_is_one_line(options: dict[str, Any], line: str) -> None:
    with pytest.raises(LoadError, match=line):
        load(replace(LoadRequest(source=PROGRAMS, jumps=()), **options))


@pytest.mark.root
@pytest.mark.skipif(
    Path(f"/lib/modules/{os.uname().release}/build").exists()
    or Path("/sys/kernel/kheaders.tar.xz").exists(),
    reason="kernel headers are installed",
)
def test_missing_headers_are_reported() -> None:
    with pytest.raises(LoadError, match="no kernel headers are installed; use the shim"):
        load(LoadRequest(source=PROGRAMS, jumps=(), headers="headers"))


@pytest.mark.root
@pytest.mark.parametrize(
    ("dropped", "line"),
    [
        ("net_admin", "CAP_NET_ADMIN missing"),
        ("bpf,sys_admin", "CAP_BPF missing"),
        ("perfmon,sys_admin", "CAP_PERFMON missing"),
    ],
)
def test_missing_capabilities_are_named(dropped: str, line: str) -> None:
    script = (
        "from pathlib import Path\n"
        "from deckwire.kernel.loader_process import LoadError\n"
        "from deckwire.kernel.loading import LoadRequest, load\n"
        "try:\n"
        f"    load(LoadRequest(source=Path({str(PROGRAMS)!r}), jumps=()))\n"
        "except LoadError as error:\n"
        "    print(error)\n"
    )
    bounds = ",".join(f"-{name}" for name in dropped.split(","))
    done = subprocess.run(
        ["setpriv", f"--bounding-set={bounds}", sys.executable, "-c", script],
        check=True,
        capture_output=True,
        text=True,
    )
    assert line in done.stdout


def children() -> list[str]:
    return (Path("/proc/thread-self") / "children").read_text().split()

"""Names of programs and maps in bpf/ by which agent and loader find them."""

from __future__ import annotations

INGRESS, EGRESS = "tc_ingress", "tc_egress"
PROGRAMS = (INGRESS, EGRESS)
"""The programs that TC attaches."""
JUMPS = (
    *("decky_packet", "decky_syn", "decky_synack", "decky_handshake", "decky_hello"),
    *("decky_check", "decky_fragment", "decky_tags", "decky_search", "decky_anomaly"),
    *("decky_probe", "decky_options", "decky_begun", "decky_head", "decky_rest"),
)
"""The programs that these jump to by tail call, in the order of enum jump in bpf/maps.h."""
XDP_PROGRAM = "xdp_ingress"
REASSEMBLED_PROGRAM = "reassembled"
"""The program for packets that were put together from IP fragments. Only test runs start it."""

VEPA_PARENTS_MAP = "vepa_parents"
"""The interfaces whose lateral frames pass both hooks."""
JUMPS_MAP = "jumps"
"""The program array of JUMPS."""
SAMPLES_MAP = "samples"
"""The perf event array with each CPU's ring."""
SETTINGS_MAP = "settings"
"""An array of one struct settings."""
COUNTERS_MAP = "counters"
"""A per-CPU array of one struct counters."""

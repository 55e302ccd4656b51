"""The live agent: reads the rings and emits events until a signal stops it."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterable
from functools import partial
from operator import attrgetter

from deckwire.abi.samples import FragmentSample, Sample
from deckwire.bus.messages import Announcement, StopRequest
from deckwire.clock import KernelClock
from deckwire.config import Settings
from deckwire.deckies import DeckiesFile
from deckwire.errors import UsageError, plain
from deckwire.events.capture import stats_events
from deckwire.events.ignore import IgnoreRules
from deckwire.kernel.link_watch import LinkOverrunError
from deckwire.kernel.loader_process import LoadError
from deckwire.kernel.loading import Loaded, detach, reattach
from deckwire.kernel.rings import WAIT_SECONDS
from deckwire.kernel.signals import Requests
from deckwire.output.fate import Fate
from deckwire.output.outputs import discard
from deckwire.resilience.containment import Where
from deckwire.resilience.report import report
from deckwire.runtime.assembly import Parts, dedup_keys, expect_echoes, wanting
from deckwire.runtime.budgets import BudgetWatch
from deckwire.runtime.bus import BusService
from deckwire.runtime.counters import frames
from deckwire.runtime.health import MISSING, Health
from deckwire.runtime.losses import LossReport
from deckwire.runtime.own_host import OwnHostWatch
from deckwire.runtime.preparation import live_kernel_settings
from deckwire.runtime.reload import Plan, Reload, plan_deckies, plan_settings
from deckwire.runtime.scan_state import ScanState
from deckwire.tables.deckies import DeckiesRefused

_ROUND_S = 1.0
"""Seconds between two looks at interfaces, deckies, losses and what is due."""
_SWEEP_S = 4.0
"""Seconds between two sweeps of an empty table of connections; fewer if it is fuller."""
_SWEEP_REST_S = 1.0
"""Seconds between two sweeps at least: samples and events have the CPU."""
_SLICE_S = 0.02
"""Seconds of a sweep between two looks at the rings. It gets more if there are so many samples that
they take longer, or the table would have no room before the sweep ends."""
_SLICE_MOST_S = 0.2
"""The most that it gets: no ring of the default size fills meanwhile."""
_TOGETHER = 128
"""Samples taken between two writings of their events."""
_YOUNG_OBJECTS = 10_000
"""New objects after which the collector looks for cycles among them. Python's 700 is for programs
that leave cycles: here nearly all objects end by their reference counts."""
_FLUSH_S = 5.0
"""Seconds that outputs have at most to write their lines at the end."""
_LEAVE_S = 1.0
"""The same for the bus."""
_NS = 1_000_000_000
_REST_S = 0.1
"""Seconds to wait after the rings could not be read, so that a lasting fault takes no CPU."""


class Agent:
    """Runs a loaded and assembled capture; owns the loop."""

    def __init__(
        self,
        settings: Settings,
        loaded: Loaded,
        parts: Parts,
        clock: KernelClock,
        deckies_file: DeckiesFile | None,
        requests: Requests,
        bus: BusService | None = None,
        own_host: OwnHostWatch | None = None,
        read_settings: Callable[[], Settings] | None = None,
    ) -> None:
        """`read_settings` reads them again for a reload, in another thread."""
        self._settings = settings
        self._loaded = loaded
        self._parts = parts
        self._contained = parts.containment.during
        self._clock = clock
        self._deckies_file = deckies_file
        self._requests = requests
        self._bus = bus
        self._own_host = own_host
        self._read_settings = read_settings
        self._reload: Reload | None = None
        """The reload that is under way."""
        self._reload_wanted = False
        """SIGHUP came, and its reload has not begun."""
        self._next_stats = self._next_sweep = 0.0
        self._is_sweeping = False
        self._own_host_due = False
        """An interface or the deckies changed since the host's own addresses were read."""
        self._ordering = parts.ordering
        self._losses = LossReport(parts.host)
        self._budgets = BudgetWatch(parts.host)
        self._health = Health(
            self._look,
            parts.stats.sums,
            lambda: parts.stats.losses(parts.tables.counters()),
            runtime_dir=settings.runtime_dir,
            metrics=settings.metrics,
        )
        self._scan_state = (
            ScanState(settings.state_dir, parts.pipeline.scanning, clock)
            if settings.state_dir is not None
            else None
        )
        self._awaited = set(loaded.absent)
        """Interfaces that have not appeared yet."""
        self._missing: set[str] = set(loaded.absent)
        """These, and interfaces that have gone and will be attached again."""
        self._complaints: dict[str, str] = {}
        """The last reason why such an interface could not be attached. Each is reported once."""

    def run(self) -> int:
        """Capture until SIGTERM or SIGINT; returns the exit status."""
        if not self._requests.stopping:
            self._announce()
            with self._contained(Where.STATS):
                self._health.started()
        with self._contained(Where.SCANS):
            if self._scan_state is not None:
                self._scan_state.read()
        # Objects made so far stay alive, so the collector need not scan them again and again.
        gc.collect()
        gc.freeze()
        gc.set_threshold(_YOUNG_OBJECTS)
        try:
            self._loop()
        finally:
            status = self._shut_down()
        return status

    def _loop(self) -> None:
        self._schedule_stats()
        self._next_sweep = next_round = time.monotonic() + _ROUND_S
        while not self._requests.stopping:
            took_s = self._pass()
            now = time.monotonic()
            with self._contained(Where.STATS):
                self._health.round()
            if self._is_sweeping or now >= self._next_sweep:
                self._sweep(now + min(max(took_s, _SLICE_S), _SLICE_MOST_S))
            if now >= next_round:
                next_round = now + _ROUND_S
                self._serve_bus(now)
                self._emit_due()
                self._housekeeping()
            if now >= self._next_stats:
                self._schedule_stats()
                self._emit_stats()
            with self._contained(Where.RELOAD):
                self._serve_reloads()

    def _schedule_stats(self) -> None:
        interval = self._settings.stats_interval
        self._next_stats = time.monotonic() + interval if interval else float("inf")

    # --- samples ---

    def _pass(self) -> float:
        """Wait for samples, unless there is other work, and take them.

        Returns the seconds that it took, without the wait.
        """
        started = time.monotonic()
        try:
            self._loaded.rings.wait(0 if self._is_sweeping else WAIT_SECONDS)
            started = time.monotonic()
            self._take_all()
        except Exception as error:
            self._parts.containment.failed(Where.RINGS, error)
            time.sleep(_REST_S)
        return time.monotonic() - started

    def _take_all(self) -> None:
        """Make one pass over the rings; take the samples from before the previous one, in order."""
        start_ns = self._clock.now_ns()
        self._drain()
        samples = self._ordering.release(start_ns)
        for at in range(0, len(samples), _TOGETHER):
            self._parts.outputs.hold()
            self._take(samples[at : at + _TOGETHER])
            self._flush()

    def _flush(self) -> None:
        """Write the events held. One that cannot be written is counted with its sample."""
        while True:
            try:
                self._parts.outputs.flush()
            except Exception as error:
                # The event that failed is no longer held, so the loop ends.
                self._parts.containment.failed(Where.OUTPUT, error)
            else:
                return

    def _take(self, samples: Iterable[Sample]) -> None:
        take = self._parts.pipeline.take
        for sample in samples:
            try:
                take(sample)
            except Exception as error:
                # A mistake that one peer provokes must not end the capture of all others.
                self._parts.containment.failed(Where.SAMPLE, error)

    def _drain(self) -> None:
        fragments: list[FragmentSample] = []
        samples: list[tuple[int, Sample]] = []
        decode = self._parts.intake.decode
        records = self._loaded.rings.drain()
        self._parts.tables.ring_room.note(self._loaded.rings)
        for _, data in records:
            try:
                sample = decode(data)
            except Exception as error:
                self._parts.containment.failed(Where.SAMPLE, error)
                continue
            if isinstance(sample, FragmentSample):
                fragments.append(sample)
            elif sample is not None:
                samples.append((sample.time_ns, sample))
        self._ordering.add(samples)
        # At once: the samples of the packets that they make are then in time for the next pass.
        for fragment in sorted(fragments, key=attrgetter("time_ns")):
            self._take_fragment(fragment)

    def _take_fragment(self, fragment: FragmentSample) -> None:
        try:
            self._parts.fragments.take(fragment)
        except Exception as error:
            self._parts.containment.failed(Where.SAMPLE, error)

    # --- from time to time ---

    def _sweep(self, until: float) -> None:
        """Begin a sweep or go on with it, until about this time of the monotonic clock."""
        sweeper, more = self._parts.pipeline.sweeper, False
        with self._contained(Where.SWEEP):
            self._parts.outputs.hold()
            if not self._is_sweeping:
                sweeper.begin(self._clock.now_ns())
            while (more := sweeper.go_on()) and time.monotonic() < until:
                pass
        self._flush()
        self._is_sweeping = more
        if not more:
            # A full table takes long to sweep, but its sources wait for the room.
            rest_s = max(_SWEEP_S * (1 - sweeper.fill), _SWEEP_REST_S)
            self._next_sweep = time.monotonic() + rest_s

    def _emit_due(self) -> None:
        with self._contained(Where.DUE):
            self._parts.outputs.hold()
            self._parts.pipeline.emit_due(self._clock.now_ns())
        self._flush()

    def _housekeeping(self) -> None:
        with self._contained(Where.STATS):
            self._clock.measure()
        with self._contained(Where.INTERFACES):
            self._watch_interfaces()
        with self._contained(Where.INTERFACES):
            self._look_at_own_host()
        with self._contained(Where.RELOAD):
            self._look_at_deckies()
        with self._contained(Where.SCANS):
            if self._scan_state is not None:
                self._scan_state.write_if_due()
        self._emit_losses()

    def _serve_bus(self, now: float) -> None:
        """Obey the bus, before events are emitted that it may have announced."""
        if self._bus is None:
            return
        with self._contained(Where.OUTPUT):
            for message in self._bus.take():
                match message:
                    case StopRequest():
                        report("stopping: the bus asks for it")
                        self._requests.stopping = True
                    case Announcement():
                        self._parts.pipeline.announce(message)
            self._bus.publish_health(now, self._figures)

    def _figures(self) -> dict[str, int]:
        """The figures for DECNET's panel."""
        kernel = self._parts.tables.counters()
        return {
            "frames": frames(kernel),
            "lost": sum(self._parts.stats.losses(kernel).values()),
            "deckies": len(self._parts.pipeline.registry),
        }

    def _emit_stats(self) -> None:
        with self._contained(Where.STATS):
            now_ns = self._clock.wall_ns(self._clock.now_ns())
            sums = self._parts.stats.sums()
            for event in stats_events(self._parts.host, now_ns, sums):
                self._parts.emitter.emit(event)

    def _emit_losses(self, *, at_the_end: bool = False) -> None:
        with self._contained(Where.STATS):
            self._emit_all_losses(at_the_end=at_the_end)

    def _emit_all_losses(self, *, at_the_end: bool) -> None:
        now_ns = self._clock.wall_ns(self._clock.now_ns())
        kernel = self._parts.tables.counters()
        lost = self._parts.stats.losses(kernel)
        for event in self._losses.due(lost, now_ns, at_the_end=at_the_end):
            if self._parts.emitter.emit(event) is not Fate.DROPPED:
                self._losses.emitted(event)
        for event in self._budgets.changes(kernel, now_ns):
            self._parts.emitter.emit(event)

    # --- reloads ---

    def _serve_reloads(self) -> None:
        if self._requests.reloading:
            self._requests.reloading = False
            self._reload_wanted = True
            self._health.reloading()
            # At once, because a file that was rotated does not depend on any settings.
            self._parts.outputs.reopen()
        if self._reload is not None and self._reload.is_ready:
            reload, self._reload = self._reload, None
            try:
                self._finish_reload(reload)
            finally:
                if reload.whole and not self._reload_wanted:
                    self._health.started()
        # A new output may have to wait for one that the reload before removed.
        if self._reload_wanted and self._reload is None and self._parts.outputs.settled:
            self._reload_wanted = False
            self._reload = Reload(self._planning(), whole=True)

    def _planning(self) -> Callable[[], Plan]:
        before, tables = self._settings, self._parts.tables.deckies
        read = self._read_settings or (lambda: before)
        outputs = self._parts.outputs.outputs
        known = self._parts.pipeline.registry
        return partial(plan_settings, read, before, self._deckies_file, known, outputs, tables)

    def _look_at_deckies(self) -> None:
        """Begin a reload of the deckies file if it changed."""
        if (
            self._reload is None
            and not self._reload_wanted
            and self._deckies_file is not None
            and self._deckies_file.changed()
        ):
            known, tables = self._parts.pipeline.registry, self._parts.tables.deckies
            self._reload = Reload(
                partial(plan_deckies, self._deckies_file, known, tables), whole=False
            )

    def _finish_reload(self, reload: Reload) -> None:
        deckies = len(self._parts.pipeline.registry)
        stay = "the configuration before stays"
        if not reload.whole:
            stay = f"the {deckies} deckies before stay"
        try:
            plan = self._planned(reload)
            self._apply(plan)
        except DeckiesRefused as error:
            if error.missing:
                stay = f"{error.missing} of the {deckies} deckies before are not watched any more"
            where = ""
            if self._deckies_file is not None:
                where = f"{plain(self._deckies_file.path)}: "
            report(f"{where}{error.strerror}; {stay}: send SIGHUP to try again")
        except UsageError as error:
            report(f"{error}; {stay}")
        except OSError as error:
            report(f"reload: {error.strerror or error}; {stay}: send SIGHUP to try again")
        else:
            self._report_reload(plan)

    def _planned(self, reload: Reload) -> Plan:
        try:
            return reload.plan()
        except DeckiesRefused:
            self._parts.pipeline.counts["reloads_failed"] += 1
            raise

    def _apply(self, plan: Plan) -> None:
        """Put a plan into force, or nothing of it.

        Raises:
            DeckiesRefused: the kernel refused the deckies.
            OSError: it refused the settings.
        """
        parts = self._parts
        try:
            if plan.settings is not None:
                parts.tables.change_settings(live_kernel_settings(plan.settings))
            # Samples wait in the ordering while the kernel's tables are written.
            parts.pipeline.replace_registry(plan.registry, plan.deckies, self._drain_contained)
        except OSError:
            if plan.settings is not None:
                discard(plan.outputs or (), [output.sink for output in parts.outputs.outputs])
                with self._contained(Where.RELOAD):
                    parts.tables.change_settings(live_kernel_settings(self._settings))
            raise
        self._deckies_file = plan.file
        self._own_host_due = True
        if plan.settings is None:
            return
        if plan.changes_dedup():
            with self._contained(Where.RELOAD):
                parts.pipeline.restart_dedup()
            parts.dedup.change(plan.settings.dedup_ttl, dedup_keys(plan.settings))
        if plan.outputs is not None:
            self._flush()
            parts.outputs.replace(plan.outputs, _FLUSH_S)
            parts.emitter.wants = wanting(parts.outputs, self._bus)
        parts.pipeline.heads.wanted = plan.settings.heads
        parts.pipeline.change_idle_time(round(plan.settings.idle_timeout * _NS))
        parts.pipeline.ignore(IgnoreRules(plan.settings.ignore))
        parts.pipeline.scanning.change(
            plan.settings.scan_targets, round(plan.settings.scan_idle * _NS)
        )
        self._health.write_metrics_to(plan.settings.metrics)
        interval, self._settings = self._settings.stats_interval, plan.settings
        if plan.settings.stats_interval != interval:
            self._schedule_stats()

    def _report_reload(self, plan: Plan) -> None:
        for note in plan.file.notes if plan.file is not None else ():
            report(note)
        if plan.changed:
            report(f"configuration read again; changed: {', '.join(plan.changed)}")
        elif plan.file is None:
            report("configuration read again; nothing changed")
        if plan.file is not None:
            report(f"deckies read again: {len(plan.registry)}")

    def _drain_contained(self) -> None:
        with self._contained(Where.RINGS):
            self._drain()

    def _watch_interfaces(self) -> None:
        overrun = False
        gone: set[int] = set()
        try:
            changes = self._loaded.watch.read()
            gone = {change.ifindex for change in changes if not change.present}
            self._own_host_due |= bool(changes)
        except LinkOverrunError:
            overrun = self._own_host_due = True
        present = self._interfaces() if overrun or self._missing else None
        if present is not None:
            # The snapshot includes changes from meanwhile, which are not reported again.
            gone |= {attachment.ifindex for attachment in self._loaded.attachments} - present.keys()
        for attachment in list(self._loaded.attachments):
            if attachment.ifindex in gone:
                report(f"{attachment.target} is gone; it is attached again when it comes back")
                attachment.close()
                self._loaded.attachments.remove(attachment)
                self._missing.add(attachment.interface)
                self._health.changed()
        if present is not None:
            for interface in sorted(self._missing & set(present.values())):
                self._attach_again(interface)

    def _look_at_own_host(self) -> None:
        if self._own_host is None:
            return
        targets = {attachment.ifindex for attachment in self._loaded.attachments}
        self._own_host.look(time.monotonic(), targets, at_once=self._own_host_due)
        self._own_host_due = False

    def _interfaces(self) -> dict[int, str] | None:
        """All interfaces by index; None if the snapshot failed, and the next round tries again."""
        try:
            return self._loaded.watch.snapshot()
        except (LinkOverrunError, OSError):
            self._parts.pipeline.counts["interface_snapshots_failed"] += 1
            return None

    def _attach_again(self, interface: str) -> None:
        try:
            attachment = reattach(self._loaded, interface)
        except LoadError as error:
            complaint = f"{interface} is there, but: {error}; trying again"
            if self._complaints.get(interface) != complaint:
                self._complaints[interface] = complaint
                report(complaint)
            return
        self._complaints.pop(interface, None)
        self._missing.discard(interface)
        self._health.changed()
        again = "" if interface in self._awaited else " again"
        self._awaited.discard(interface)
        if attachment is None:
            report(f"ready: {interface} is there{again}; its parent is watched already")
            return
        expect_echoes(self._loaded)
        for note in attachment.notes:
            report(note)
        report(f"ready: {attachment.target} attached{again} ({attachment.method})")

    def _look(self) -> tuple[int, dict[str, str], dict[str, str]]:
        """What Health shows: see `deckwire.runtime.health.Look`."""
        interfaces = {a.target: f"attached ({a.method})" for a in self._loaded.attachments}
        interfaces |= dict.fromkeys(sorted(self._missing), MISSING)
        return len(self._parts.pipeline.registry), interfaces, self._parts.outputs.failures()

    # --- beginning and end ---

    def _announce(self) -> None:
        for note in self._deckies_file.notes if self._deckies_file is not None else ():
            report(note)
        for attachment in self._loaded.attachments:
            for note in attachment.notes:
                report(note)
        for line in self._loaded.absent.values():
            report(f"waiting: {line}; it is attached when it comes")
        if not self._loaded.attachments:
            return
        where = ", ".join(f"{a.target} ({a.method})" for a in self._loaded.attachments)
        count = len(self._parts.pipeline.registry)
        report(
            f"ready: watching {count} {'decky' if count == 1 else 'deckies'} on {where},"
            f" loaded in {self._loaded.load_ms} ms"
        )

    def _shut_down(self) -> int:
        """Detach, emit an event for all that is open, flush the outputs; return the exit status.

        Each step runs even if one before it failed.
        """
        status = 1
        with self._contained(Where.SHUTDOWN):
            self._health.stopping()
        with self._contained(Where.SHUTDOWN):
            try:
                detach(self._loaded)
                status = 0
            except LoadError as error:
                report(str(error))
        with self._contained(Where.RINGS):
            self._drain()
            # Fragments in the rings have made samples.
            self._drain()
        self._take(self._ordering.flush())
        with self._contained(Where.SCANS):
            if self._scan_state is not None:
                self._scan_state.suspend()
        with self._contained(Where.SHUTDOWN):
            self._parts.pipeline.finish()
        self._flush()
        self._emit_losses(at_the_end=True)
        self._emit_stats()
        with self._contained(Where.OUTPUT):
            self._parts.outputs.close(_FLUSH_S)
            for cause, lines in sorted(self._parts.outputs.losses().items()):
                report(f"lost at the outputs: {lines} lines, {cause}")
        if self._bus is not None:
            with self._contained(Where.OUTPUT):
                self._bus.close(_LEAVE_S)
        with self._contained(Where.SHUTDOWN):
            if self._own_host is not None:
                self._own_host.close()
            self._loaded.close()
        return status

"""What `wallaby run` and `wallaby demo` show while a flow runs: a live picture, plain lines, or JSON lines.

`open_view` chooses: ``--json`` gives `JsonLines`; a terminal gives `LiveView`; anything else (a pipe, a log, CI) gives
`PlainLines`. All three take the same calls, from one thread.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Final, Protocol, Self, TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from cluster.tally import DestinationLine, Tally, bytes_text, copied_share, duration_text, expected_rows, position_text
from wallaby.status import FlowStatus, TableStatus

PLAIN_SECONDS: Final = 2.0
"""Plain lines come at most this often; a change of state or phase comes at once."""

SERVING_SECONDS: Final = 30.0
"""... and of a driver that serves many flows, for days."""

JSON_SECONDS: Final = 1.0
"""Progress objects come at most this often, likewise."""

_TABLES_MAX: Final = 8
_PLAIN_WIDTH: Final = 120
_STYLES: Final = {
    "streaming": "green",
    "running": "green",
    "copying": "cyan",
    "snapshot": "cyan",
    "draining": "cyan",
    "starting": "yellow",
    "waiting": "yellow",
    "backoff": "yellow",
    "stopping": "yellow",
    "paused": "yellow",
    "failed": "bold red",
}

Clock = Callable[[], float]


class View(Protocol):
    """Shows a flow's progress. A context manager; what was shown stays readable afterwards."""

    def update(self, status: FlowStatus, *, note: str = "") -> None:
        """The flow at this moment; ``note`` is one more line to show (what a workload does, for example)."""
        ...

    def message(self, text: str) -> None:
        """A line for the record: something happened."""
        ...

    def show(self, part: RenderableType) -> None:
        """Something for people to read, below what there is already; machines do not get it."""
        ...

    def report(self, report: Mapping[str, Any]) -> None:
        """The final report, plain JSON values. Views for people leave it to whoever prints the story."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def open_view(*, as_json: bool = False, stream: TextIO | None = None) -> View:
    """The view that fits ``stream`` (standard output by default)."""
    output = stream or sys.stdout
    if as_json:
        return JsonLines(output)
    console = Console(file=output)
    if console.is_terminal and not console.is_dumb_terminal:
        return LiveView(console)
    return PlainLines(output)


@contextmanager
def machines_only(as_json: bool) -> Iterator[None]:
    """With ``as_json``, whatever anybody else prints goes to standard error; a view opened before keeps its stream."""
    with contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext():
        yield


class Views:
    """Many flows at once, each with lines of its own; for a driver that serves."""

    def __init__(self, *, as_json: bool = False, stream: TextIO | None = None) -> None:
        self._as_json = as_json
        self._stream = stream or sys.stdout
        self._of_all = self._new()
        self._of_flow: dict[str, View] = {}

    def update(self, status: FlowStatus, *, note: str = "") -> None:
        if status.flow not in self._of_flow:
            self._of_flow[status.flow] = self._new()
        self._of_flow[status.flow].update(status, note=note)

    def message(self, text: str) -> None:
        self._of_all.message(text)

    def show(self, part: RenderableType) -> None:
        self._of_all.show(part)

    def report(self, report: Mapping[str, Any]) -> None:
        self._of_all.report(report)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def _new(self) -> View:
        return JsonLines(self._stream) if self._as_json else PlainLines(self._stream, every_s=SERVING_SECONDS)


class LiveView:
    """A picture that redraws itself in a terminal of at least 80 × 24."""

    def __init__(
        self,
        console: Console | None = None,
        *,
        clock: Clock = time.monotonic,
    ) -> None:
        self._console = console or Console()
        self._clock = clock
        self._tally = Tally()
        self._live = Live(console=self._console, auto_refresh=False, vertical_overflow="crop")

    def update(self, status: FlowStatus, *, note: str = "") -> None:
        lines = self._tally.observe(status, self._clock())
        drawn = picture(status, lines, self._tally, note=note)
        self._live.update(drawn, refresh=self._live.is_started)
        if not self._live.is_started:
            self._live.start(refresh=True)

    def message(self, text: str) -> None:
        self._console.print(text, highlight=False, markup=False)

    def show(self, part: RenderableType) -> None:
        self._stop()
        self._console.print(part, soft_wrap=isinstance(part, Text))

    def report(self, report: Mapping[str, Any]) -> None:
        del report

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def _stop(self) -> None:
        """The last picture stays, above whatever is printed next; another ``update`` draws a new one."""
        self._live.stop()


class PlainLines:
    """One line every few seconds, for logs and pipes."""

    def __init__(
        self,
        stream: TextIO,
        *,
        clock: Clock = time.monotonic,
        every_s: float = PLAIN_SECONDS,
    ) -> None:
        self._stream = stream
        self._clock = clock
        self._every_s = every_s
        self._tally = Tally()
        self._shown_at: float | None = None
        self._shown: tuple[object, ...] = ()

    def update(self, status: FlowStatus, *, note: str = "") -> None:
        now = self._clock()
        lines = self._tally.observe(status, now)
        change = (status.state, status.phase, status.epoch, status.error)
        if change == self._shown and self._shown_at is not None and now - self._shown_at < self._every_s:
            return
        self._shown, self._shown_at = change, now
        self.message(plain_line(status, lines, copied_share(status), note=note))

    def message(self, text: str) -> None:
        print(text, file=self._stream, flush=True)

    def show(self, part: RenderableType) -> None:
        Console(file=self._stream, width=_PLAIN_WIDTH).print(part, soft_wrap=isinstance(part, Text))

    def report(self, report: Mapping[str, Any]) -> None:
        del report

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None


class JsonLines:
    """One JSON object per line: ``{"event": "progress" | "message" | "report", …}``."""

    def __init__(self, stream: TextIO, *, clock: Clock = time.monotonic, every_s: float = JSON_SECONDS) -> None:
        self._stream = stream
        self._clock = clock
        self._every_s = every_s
        self._tally = Tally()
        self._shown_at: float | None = None
        self._shown: tuple[object, ...] = ()

    def update(self, status: FlowStatus, *, note: str = "") -> None:
        now = self._clock()
        lines = self._tally.observe(status, now)
        change = (status.state, status.phase, status.epoch, status.error)
        if change == self._shown and self._shown_at is not None and now - self._shown_at < self._every_s:
            return
        self._shown, self._shown_at = change, now
        extra = {"note": note} if note else {}
        rates = {line.destination: round(line.rows_per_s, 1) for line in lines}
        self._print({"event": "progress", **status.as_json(), "rows_per_s": rates, **extra})

    def message(self, text: str) -> None:
        self._print({"event": "message", "text": text})

    def show(self, part: RenderableType) -> None:
        del part

    def report(self, report: Mapping[str, Any]) -> None:
        self._print({"event": "report", **report})

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def _print(self, value: Mapping[str, Any]) -> None:
        print(json.dumps(value, ensure_ascii=False, separators=(",", ":")), file=self._stream, flush=True)


def picture(
    status: FlowStatus,
    lines: tuple[DestinationLine, ...],
    tally: Tally,
    *,
    note: str = "",
) -> RenderableType:
    """The whole live picture; at most 24 lines for up to five destinations."""
    parts: list[RenderableType] = [_header(status, tally)]
    share = copied_share(status)
    if status.phase == "snapshot" and share is not None:
        parts.append(_snapshot_bar(share, status))
    parts.append(_destinations(lines))
    if status.tables:
        parts.append(_tables(status, room=max(1, min(_TABLES_MAX, 11 - len(lines)))))
    if waiting := str(status.unfinished):
        text = f"unfinished: {waiting} ({bytes_text(status.unfinished.bytes)})"
        parts.append(Text(text, no_wrap=True, overflow="ellipsis"))
    if note:
        parts.append(Text(note, style="dim", no_wrap=True, overflow="ellipsis"))
    if status.error:
        parts.append(Text(_shortened(status.error, 150), style=_STYLES["failed"]))
    return Panel(Group(*parts), title=Text(f"wallaby · {status.flow}"), title_align="left", padding=(0, 1))


def plain_line(
    status: FlowStatus, lines: tuple[DestinationLine, ...], share: float | None = None, *, note: str = ""
) -> str:
    """The same in one line of text."""
    copied = f" {share:.0%} copied" if share is not None and status.phase == "snapshot" else ""
    parts = [f"{status.flow} {status.state}/{status.phase}{copied} epoch {status.epoch} confirmed {status.confirmed}"]
    parts += [
        f"{line.destination} {line.state} {line.rows:,} rows {line.rows_per_s:,.0f}/s"
        f" lag {bytes_text(line.lag_bytes)} {duration_text(line.lag_ms)}"
        for line in lines
    ]
    if waiting := str(status.unfinished):
        parts.append(f"unfinished: {waiting}")
    parts += [part for part in (note, status.error and f"error: {status.error}") if part]
    return " | ".join(parts)


def _header(status: FlowStatus, tally: Tally) -> Table:
    table = Table.grid(padding=(0, 2), expand=True)
    for _ in range(4):
        table.add_column(no_wrap=True, overflow="ellipsis")
    state = Text(status.state, style=_STYLES.get(status.state, ""))
    phase = Text(status.phase, style=_STYLES.get(status.phase, ""))
    table.add_row(
        Text.assemble("state ", state),
        Text.assemble("phase ", phase),
        f"epoch {status.epoch}",
        f"restarts {status.restarts}",
    )
    table.add_row(
        f"read {tally.source_rows:,}",
        f"{tally.source_rows_per_s:,.0f} rows/s",
        f"confirmed {status.confirmed}",
        f"WAL end {status.server}",
    )
    return table


def _snapshot_bar(share: float, status: FlowStatus) -> Table:
    table = Table.grid(padding=(0, 1), expand=True)
    table.add_column(no_wrap=True)
    table.add_column(ratio=1)
    table.add_column(no_wrap=True, justify="right")
    done = sum(item.copy == "copied" for item in status.tables)
    count = sum(item.copy != "" for item in status.tables)
    table.add_row("snapshot", ProgressBar(total=1.0, completed=share), f"{share:.0%}, {done} of {count} tables")
    return table


def _destinations(lines: tuple[DestinationLine, ...]) -> Table:
    table = Table(box=None, expand=True, padding=(0, 1), header_style="bold", pad_edge=False)
    table.add_column("destination", no_wrap=True, overflow="ellipsis", ratio=1, min_width=11)
    table.add_column("state", no_wrap=True)
    for name in ("rows", "rows/s", "lag", "behind"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("position", justify="right", no_wrap=True, overflow="ellipsis")
    for line in lines:
        lanes = f" ×{line.lanes}" if line.lanes > 1 else ""
        table.add_row(
            Text(line.destination + lanes),
            Text(line.state, style=_STYLES.get(line.state, "")),
            f"{line.rows:,}",
            f"{line.rows_per_s:,.0f}",
            bytes_text(line.lag_bytes),
            duration_text(line.lag_ms),
            position_text(line.position),
        )
    return table


def _tables(status: FlowStatus, *, room: int) -> Table:
    table = Table(box=None, expand=True, padding=(0, 1), header_style="bold", pad_edge=False)
    table.add_column("table", no_wrap=True, overflow="ellipsis", ratio=1)
    table.add_column("copied", justify="right", no_wrap=True)
    table.add_column("streamed", justify="right", no_wrap=True)
    busiest = sorted(status.tables, key=lambda item: (-(item.rows + item.copied), item.table))
    for item in busiest[:room]:
        table.add_row(Text(item.table), _copied(item), f"{item.rows:,}")
    if len(busiest) > room:
        table.add_row(Text(f"and {len(busiest) - room} more", style="dim"), "", "")
    return table


def _copied(item: TableStatus) -> str:
    """``1,200 of 5,000`` while the table is copied and something is known of its size."""
    expected = expected_rows(item)
    is_going_on = item.copy in ("pending", "copying") and expected > item.copied
    return f"{item.copied:,} of {expected:,}" if is_going_on else f"{item.copied:,}"


def _shortened(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"

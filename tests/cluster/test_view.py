"""The live picture fits 80 × 24, plain lines are paced, JSON lines are JSON."""

from __future__ import annotations

import io
import json
from dataclasses import replace

from rich.console import Console

from cluster.tally import Tally
from cluster.view import JsonLines, LiveView, PlainLines, open_view, picture, plain_line
from wallaby.lsn import Lsn, Position
from wallaby.status import FlowStatus, LaneStatus, TableStatus, UnfinishedStatus

TABLES = ("audit_log", "customers", "inventory", "inventory_staging", "order_lines", "orders", "products")


def status(
    *, destinations: int = 3, phase: str = "streaming", error: str = "", rows: int = 1_234_567, epoch: int = 3
) -> FlowStatus:
    kinds = ("warehouse", "lake", "files", "a_destination_with_a_rather_long_name", "fifth")
    lanes = tuple(
        LaneStatus(
            destination=kinds[index],
            state="streaming" if index else "waiting",
            rows=rows - index,
            lag_bytes=index * 123_456,
            lag_ms=index * 1_500,
            position=Position(Lsn(0x1_2F00_0028 + index), 0),
        )
        for index in range(destinations)
    )
    return FlowStatus(
        flow="shop",
        state="running",
        phase=phase,
        epoch=epoch,
        restarts=2,
        confirmed=Lsn(0x1_2F00_0028),
        server=Lsn(0x1_2F00_1028),
        rows=rows,
        lanes=lanes,
        tables=tuple(
            TableStatus(
                table=f"shop.{name}",
                rows=i * 1_000,
                copied=100,
                estimated=200,
                copy="copying" if phase == "snapshot" else "copied",
            )
            for i, name in enumerate(TABLES)
        ),
        error=error,
    )


def drawn(flow: FlowStatus, *, note: str = "") -> list[str]:
    tally = Tally()
    lines = tally.observe(flow, 0.0)
    output = io.StringIO()
    Console(file=output, width=80, height=24).print(picture(flow, lines, tally, note=note))
    return output.getvalue().rstrip("\n").split("\n")


def test_transactions_that_have_not_ended_are_shown_with_what_they_take() -> None:
    flow = replace(status(), unfinished=UnfinishedStatus(streamed=1, prepared=2, bytes=3 << 20))
    [line] = [line for line in drawn(flow) if "unfinished" in line]
    assert "1 streamed, 2 prepared, which hold the slot (3.0 MiB)" in line
    assert "unfinished: 1 streamed" in plain_line(flow, ())
    assert not [line for line in drawn(status()) if "unfinished" in line]
    assert len(drawn(replace(flow, error="x" * 200), note="a note")) <= 24


def test_the_picture_of_a_running_flow() -> None:
    assert drawn(status(), note="workload 8,000 rows, 1,000 rows/s") == [
        "╭─ wallaby · shop ─────────────────────────────────────────────────────────────╮",
        "│ state running    phase streaming   epoch 3                restarts 2         │",
        "│ read 1,234,567   0 rows/s          confirmed 1/2F000028   WAL end 1/2F001028 │",
        "│ destination        state           rows  rows/s      lag  behind    position │",
        "│ warehouse          waiting    1,234,567       0      0 B    0 ms  1/2F000028 │",
        "│ lake               streaming  1,234,566       0  121 KiB   1.5 s  1/2F000029 │",
        "│ files              streaming  1,234,565       0  241 KiB   3.0 s  1/2F00002A │",
        "│ table                                                       copied  streamed │",
        "│ shop.products                                                  100     6,000 │",
        "│ shop.orders                                                    100     5,000 │",
        "│ shop.order_lines                                               100     4,000 │",
        "│ shop.inventory_staging                                         100     3,000 │",
        "│ shop.inventory                                                 100     2,000 │",
        "│ shop.customers                                                 100     1,000 │",
        "│ shop.audit_log                                                 100         0 │",
        "│ workload 8,000 rows, 1,000 rows/s                                            │",
        "╰──────────────────────────────────────────────────────────────────────────────╯",
    ]


def test_the_fullest_picture_fits_a_small_terminal() -> None:
    full = drawn(
        status(destinations=5, phase="snapshot", error="the connection was lost " * 20, rows=10**12), note="n" * 200
    )
    assert len(full) <= 24
    assert all(len(line) == 80 for line in full)
    assert any("50%, 0 of 7 tables" in line for line in full)
    assert any("100 of 200" in line for line in full)
    assert full[-2].rstrip(" │").endswith("…")


def test_a_name_with_markup_is_shown_as_it_is() -> None:
    flow = FlowStatus(flow="[bold]x[/bold]", state="running", lanes=(LaneStatus(destination="[red]a"),))
    text = "\n".join(drawn(flow))
    assert "[bold]x[/bold]" in text
    assert "[red]a" in text


def test_the_live_view_draws_in_a_terminal() -> None:
    output = io.StringIO()
    console = Console(file=output, width=80, height=24, force_terminal=True)
    with LiveView(console, clock=iter((1.0, 2.0)).__next__) as view:
        view.update(status(rows=1_000))
        view.update(status(rows=3_000), note="n")
        view.message("a source was killed [on purpose]")
    assert "2,000 rows/s" in output.getvalue()
    assert "[on purpose]" in output.getvalue()


def test_without_a_terminal_lines_are_printed_at_a_pace() -> None:
    """A changed state is printed at once, the same state only every two seconds."""
    output = io.StringIO()
    times = iter((0.0, 0.5, 1.0, 1.2, 3.5))
    with PlainLines(output, clock=times.__next__) as view:
        view.update(status())
        view.update(status())
        view.update(status(epoch=4))
        view.update(status(epoch=4))
        view.update(status(epoch=4), note="workload done")
    lines = output.getvalue().splitlines()
    assert len(lines) == 3
    assert lines[0].startswith("shop running/streaming epoch 3 confirmed 1/2F000028 | warehouse waiting 1,234,567 rows")
    assert "epoch 4" in lines[1]
    assert lines[2].endswith("| workload done")


def test_json_lines_are_one_object_each() -> None:
    output = io.StringIO()
    with JsonLines(output, clock=iter((0.0, 1.0)).__next__) as view:
        view.update(status(rows=1_000))
        view.update(status(rows=1_500), note="n")
        view.message("hello")
        view.report({"equal": True})
    first, second, message, report = (json.loads(line) for line in output.getvalue().splitlines())
    assert first["event"] == "progress"
    assert first["confirmed"] == "1/2F000028"
    assert first["lanes"][1]["position"] == "000000012F000029.0000000000000000"
    assert second["rows_per_s"] == {"warehouse": 500.0, "lake": 500.0, "files": 500.0}
    assert message == {"event": "message", "text": "hello"}
    assert report == {"event": "report", "equal": True}


def test_the_view_follows_the_stream_it_writes_to() -> None:
    assert isinstance(open_view(stream=io.StringIO()), PlainLines)
    assert isinstance(open_view(as_json=True, stream=io.StringIO()), JsonLines)

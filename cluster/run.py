"""``wallaby run``, ``wallaby up`` and ``wallaby check``."""

from __future__ import annotations

import argparse
import asyncio
import os
import socket
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from cluster.findings import show_findings
from cluster.view import View, Views, machines_only, open_view
from wallaby.check import check_flow, has_errors, is_misconfigured
from wallaby.errors import ConfigError
from wallaby.flow import FlowSpec
from wallaby.flow.resolution import resolved, stored_secrets
from wallaby.lifecycle import Command
from wallaby.lsn import Lsn
from wallaby.postgres.connect import application_name
from wallaby.settings import VARIABLES, Limits, Settings
from wallaby.sink import Finding, Severity
from wallaby.status import FlowStatus
from wallaby.store import open_store, store_exists
from wallaby.vault import Vault

EXIT_OK, EXIT_FAILED, EXIT_USAGE = 0, 1, 2


def check(words: argparse.Namespace) -> int:
    """Show what `check_flow` finds; 1 when something stops the flow, 2 when the flow file itself does."""
    flow = FlowSpec.from_file(words.flow)
    findings = _findings(flow, with_secrets(flow, Settings.load(os.environ)))
    show_findings(flow.id, findings, as_json=words.json)
    return _exit_code(findings)


def run(words: argparse.Namespace) -> int:
    """Run one flow from a file."""
    return _run(FlowSpec.from_file(words.flow), words)


def run_stored(flow_id: str, *, once: bool, start_lsn: str = "") -> int:
    """Run one flow of the control store; `NotFound` when it has none of this id.

    ``start_lsn`` is for a flow that has no position yet; `ConfigError` for another.
    """
    words = argparse.Namespace(
        once=once,
        until_lsn=None,
        resnapshot=False,
        no_check=False,
        json=False,
        state_dir=None,
        listen=None,
        no_dashboard=True,
    )
    first = _parse_lsn(start_lsn or None, "-start-lsn")
    store = open_store(_settings(words))
    try:
        flow = store.get_flow(flow_id).spec
        if first is not None and (checkpoint := store.get_checkpoint(flow_id)) is not None:
            raise ConfigError(
                f"would skip changes, or repeat them: the flow stands at {checkpoint.position.lsn}",
                field="-start-lsn",
                advice="Leave it out: the flow goes on where it is",
            )
    finally:
        store.close()
    return _run(flow, words, start_lsn=first)


def _run(flow: FlowSpec, words: argparse.Namespace, *, start_lsn: Lsn | None = None) -> int:
    until = _parse_lsn(words.until_lsn, "--until-lsn")
    settings = _beside_others(_settings(words), words)
    ready = with_secrets(flow, settings)
    if not words.no_check:
        findings = [finding for finding in _findings(flow, ready) if finding.severity is not Severity.INFO]
        if words.resnapshot:  # the way out of a lost slot must not be barred by it
            findings = [finding for finding in findings if finding.code != "slot-lost"]
        if findings:
            show_findings(flow.id, findings, as_json=words.json)
        if has_errors(findings):
            return _exit_code(findings)
    from cluster.driver import Driver
    from cluster.ray_runtime import attached
    from cluster.supervisor import Outcome, RunMode

    mode = RunMode(once=words.once, until=until, start_lsn=start_lsn)
    command = Command.RESNAPSHOT if words.resnapshot else Command.START
    with (
        open_view(as_json=words.json) as view,
        machines_only(words.json),
        attached(dashboard=not words.no_dashboard) as runtime,
    ):
        _warn_of_loss(view, settings)

        async def drive() -> Outcome:
            driver = Driver(settings, limits=Limits(), observe=view.update, tell=view.message)
            try:
                await driver.start()
                driver.install_signals()
                _announce(view, driver.address, runtime.dashboard)
                return await driver.run_flow(flow, mode, command=command)
            finally:
                final[:] = [status] if (status := driver.last_status(flow.id)) is not None else []
                await driver.close()

        final: list[FlowStatus] = []
        outcome = asyncio.run(drive())
        report = final[0].as_json() if final else {"flow": flow.id}
        view.report({"outcome": outcome.value, **report})
    if outcome is Outcome.FAILED:
        print(f"wallaby: {report.get('error', 'the flow failed')}", file=sys.stderr)
        return EXIT_FAILED
    return EXIT_OK


def up(words: argparse.Namespace) -> int:
    """Serve the API until SIGTERM or Ctrl-C."""
    settings = _settings(words)
    from cluster.driver import Driver
    from cluster.ray_runtime import attached

    with (
        Views(as_json=words.json) as view,
        machines_only(words.json),
        attached(dashboard=not words.no_dashboard) as runtime,
    ):
        _warn_of_loss(view, settings)

        async def drive() -> None:
            driver = Driver(settings, limits=Limits(), observe=view.update, tell=view.message)
            try:
                await driver.start()
                driver.install_signals()
                _announce(view, driver.address, runtime.dashboard)
                await driver.serve()
            finally:
                await driver.close()

        asyncio.run(drive())
    return EXIT_OK


def with_secrets(flow: FlowSpec, settings: Settings) -> FlowSpec:
    """The flow with its secrets; the control store is opened only for a flow that has some there."""
    names = stored_secrets(flow)
    if not names or not store_exists(settings):
        return resolved(flow)
    store = open_store(settings)
    try:
        sealed = [item for item in store.list_secrets() if item.name in names]
    finally:
        store.close()
    return resolved(flow, Vault.from_reference(settings.secret_key).open_all(sealed))


def _findings(flow: FlowSpec, ready: FlowSpec) -> list[Finding]:
    return [*flow.findings(), *check_flow(ready, own_application=application_name(flow.id))]


def _exit_code(findings: list[Finding]) -> int:
    if not has_errors(findings):
        return EXIT_OK
    return EXIT_USAGE if is_misconfigured(findings) else EXIT_FAILED


def _announce(view: View, address: str, dashboard: str) -> None:
    view.message(f"gRPC API on {address}" + (f", Ray dashboard on http://{dashboard}" if dashboard else ""))


def _warn_of_loss(view: View, settings: Settings) -> None:
    """A job's working directory goes with the job; a checkpoint in it would be lost, and every run a first run."""
    from cluster.ray_runtime import job_id

    if job_id() and not settings.postgres_dsn and settings.state_dir.is_relative_to(Path.cwd()):
        view.message(
            f"warning: the control store lies in {settings.state_dir}, inside the job's working directory, which Ray"
            " removes: the next submission would not know how far this one came. Set WALLABY_POSTGRES_DSN, or"
            " WALLABY_STATE_DIR to a folder that stays, in the job's runtime environment (env_vars)."
        )


def _settings(words: argparse.Namespace) -> Settings:
    overrides: dict[str, Any] = {}
    if words.state_dir:
        overrides["state_dir"] = words.state_dir
    if words.listen:
        overrides["grpc_listen"] = words.listen
    settings = Settings.load(os.environ, overrides)
    # The coordinator lives in a process that may have been started elsewhere.
    return replace(settings, state_dir=settings.state_dir.absolute())


def _beside_others(settings: Settings, words: argparse.Namespace) -> Settings:
    """A flow run from a file must not fail because another one has the API's usual port and nobody chose that port."""
    if words.listen or settings.grpc_listen != Settings().grpc_listen or os.environ.get(VARIABLES["grpc_listen"]):
        return settings
    try:
        with socket.create_server(settings.grpc_address):
            return settings
    except OSError:
        return replace(settings, grpc_listen="127.0.0.1:0")


def _parse_lsn(text: str | None, field: str) -> Lsn | None:
    if text is None:
        return None
    try:
        return Lsn.parse(text)
    except ValueError as error:
        raise ConfigError(str(error), field=field) from None

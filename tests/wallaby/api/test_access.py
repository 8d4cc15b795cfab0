"""Every method has a rule, and each role may do exactly what the table says."""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any

import pytest
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

import wallaby.v1
from wallaby.access import Role
from wallaby.api.access import RULES


def services() -> list[Any]:
    """Descriptors of every service we have a contract of, served or not."""
    names = [module.name for module in pkgutil.iter_modules(wallaby.v1.__path__) if module.name.endswith("_pb2")]
    modules = [importlib.import_module(f"wallaby.v1.{name}") for name in names]
    return [
        service
        for module in (*modules, health_pb2, reflection_pb2)
        for service in module.DESCRIPTOR.services_by_name.values()
    ]


METHODS = [(f"/{service.full_name}/{method.name}", method) for service in services() for method in service.methods]


def test_there_are_methods_to_check() -> None:
    assert len(METHODS) >= 34


@pytest.mark.parametrize("path", [path for path, _ in METHODS])
def test_every_method_has_a_rule(path: str) -> None:
    assert path in RULES, f"add {path} to wallaby/api/access.py"


def test_only_health_is_for_everybody() -> None:
    assert {path.split("/")[1] for path, rule in RULES.items() if rule.role is None} == {"grpc.health.v1.Health"}


def test_a_viewer_changes_nothing_and_what_holds_secrets_is_for_admins_and_keeps_no_answer() -> None:
    assert not [path for path, rule in RULES.items() if rule.is_change and rule.role is Role.VIEWER]
    holders = {path for path, rule in RULES.items() if not rule.keeps_answer}
    assert holders == {"/wallaby.v1.TokenService/CreateToken", "/wallaby.v1.SecretService/PutSecret"}
    for service in ("TokenService", "SecretService", "AuditService"):
        assert {rule.role for path, rule in RULES.items() if f".{service}/" in path} == {Role.ADMIN}


def test_messages_of_streams_are_for_operators_and_pulling_them_pushes_no_change_out_of_the_log() -> None:
    rules = {path.rpartition("/")[2]: rule for path, rule in RULES.items() if ".StreamService/" in path}
    assert {rule.role for rule in rules.values()} == {Role.OPERATOR}
    assert {name for name, rule in rules.items() if not rule.is_change} == {"Pull", "Ack"}


def test_what_acts_at_a_source_is_for_operators_and_every_change_there_is_recorded_before_its_answer() -> None:
    rules = {path.rpartition("/")[2]: rule for path, rule in RULES.items() if ".SourceService/" in path}
    assert {rule.role for rule in rules.values()} == {Role.OPERATOR}
    assert {name for name, rule in rules.items() if not rule.is_change} == {
        "ListSlots",
        "GetPublication",
        "ListUnpublishedTables",
    }


@pytest.mark.parametrize("role", list(Role))
@pytest.mark.parametrize("needed", list(Role))
def test_a_role_covers_itself_and_those_below(role: Role, needed: Role) -> None:
    order = [Role.VIEWER, Role.OPERATOR, Role.ADMIN]
    assert role.covers(needed) is (order.index(role) >= order.index(needed))

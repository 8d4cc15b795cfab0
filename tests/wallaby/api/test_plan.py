"""PlanFlow: what would change, told before it does, with nothing stored."""

from __future__ import annotations

import json
from typing import Any

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.wallaby.api.conftest import a_message
from wallaby.api.conversion import message_from_spec, spec_from_message
from wallaby.flow import EndpointSpec, FlowConfig, FlowSpec
from wallaby.flow.plan import PlannedAction, plan_flow
from wallaby.store import Store
from wallaby.v1 import flow_pb2, types_pb2


def ask(message: types_pb2.Flow) -> flow_pb2.PlanFlowRequest:
    return flow_pb2.PlanFlowRequest(flow=message)


async def test_a_flow_nobody_knows_would_be_created_and_is_not(flows: Any, store: Store) -> None:
    plan = await flows.PlanFlow(ask(a_message()))
    assert (plan.flow_id, plan.action, plan.revision) == ("shop", flow_pb2.PLANNED_ACTION_CREATE, 0)
    assert store.list_flows().flows == ()
    assert {change.field: json.loads(change.after) for change in plan.changes}["source.options.dsn"] == "env:SHOP_DSN"
    assert not any(change.destructive or change.HasField("before") for change in plan.changes)


async def test_an_equal_flow_needs_nothing_and_a_changed_one_is_told_with_its_revision(flows: Any) -> None:
    await flows.CreateFlow(flow_pb2.CreateFlowRequest(flow=a_message(), start_immediately=True))
    assert (await flows.PlanFlow(ask(a_message()))).action == flow_pb2.PLANNED_ACTION_NONE
    plan = await flows.PlanFlow(ask(a_message(parallelism=4)))
    assert (plan.action, plan.revision, plan.state) == (
        flow_pb2.PLANNED_ACTION_UPDATE,
        1,
        types_pb2.FLOW_STATE_RUNNING,
    )
    [change] = plan.changes
    assert (change.field, change.before, change.after, change.destructive) == ("parallelism", "1", "4", "")


async def test_a_wrong_flow_is_refused_as_its_creation_would_be(flows: Any) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await flows.PlanFlow(ask(a_message(parallelism=99)))
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    await flows.CreateFlow(flow_pb2.CreateFlowRequest(flow=a_message()))
    thief = a_message("Thief")
    thief.source.options["slot"] = "wallaby_shop"
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await flows.PlanFlow(ask(thief))
    assert refused.value.code() is grpc.StatusCode.ALREADY_EXISTS
    plan = await flows.PlanFlow(flow_pb2.PlanFlowRequest(flow=thief, deleted_flow_ids=["shop"]))
    assert plan.action == flow_pb2.PLANNED_ACTION_CREATE


@pytest.mark.must_not_fail(24)
async def test_a_plan_shows_no_secret(flows: Any) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await flows.PlanFlow(ask(a_message(dsn="postgresql://me:hunter2@db/shop")))
    assert "hunter2" not in f"{refused.value!r}{refused.value.details()}{refused.value.trailing_metadata()}"


plain = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)
options = st.dictionaries(
    plain,
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | plain
    | st.lists(plain, max_size=3),
    max_size=4,
)


@given(
    source=options,
    target=options,
    parallelism=st.integers(1, 64),
    config=st.fixed_dictionaries({}, optional={"failure_mode": st.sampled_from(["hold_slot", "drop_slot"])}),
)
def test_what_the_api_makes_of_any_definition_is_not_a_difference(
    source: dict[str, Any], target: dict[str, Any], parallelism: int, config: dict[str, Any]
) -> None:
    """A second apply of the same file must find nothing to do, whatever types its options have."""
    wanted = FlowSpec(
        id="shop",
        name="Shop",
        source=EndpointSpec(type="postgres", options=source),
        destinations=(EndpointSpec(name="lake", type="duckdb", options=target),),
        parallelism=parallelism,
        config=FlowConfig(**config),
    )
    stored = spec_from_message(message_from_spec(wanted), with_options=False)
    assert plan_flow(wanted, stored).action is PlannedAction.NONE
    assert plan_flow(stored, wanted).action is PlannedAction.NONE

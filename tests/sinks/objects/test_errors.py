"""What an answer means, and when it leaves open what happened."""

from __future__ import annotations

import pytest

from sinks.objects.errors import Advice, Answer, creation_error, translate
from wallaby.errors import OutcomeUnknown, Refused, Transient

ADVICE = Advice(place="bucket", keys="Set credentials", address="endpoint")


@pytest.mark.must_not_fail(2)
@pytest.mark.parametrize(
    ("answer", "is_open"),
    [
        (Answer(), True),
        (Answer(500, "InternalError"), True),
        (Answer(503), True),
        (Answer(501), False),
        (Answer(403, "AccessDenied"), False),
        (Answer(404, "NoSuchBucket", is_missing_place=True), False),
        (Answer(429, "SlowDown"), False),
        (Answer(is_without_keys=True), False),
    ],
)
def test_a_creation_is_unknown_exactly_when_the_store_may_have_made_it(answer: Answer, is_open: bool) -> None:
    assert answer.is_unanswered == is_open
    assert isinstance(creation_error(answer, ADVICE, bucket="b"), OutcomeUnknown) == is_open


@pytest.mark.parametrize(
    ("answer", "kind", "message", "advice"),
    [
        (Answer(), Transient, "the store does not answer", "endpoint and the network"),
        (Answer(is_without_keys=True), Transient, "there are no valid keys for the store", "Set credentials"),
        (Answer(404, is_missing_place=True), Transient, "the bucket does not exist", "correct bucket"),
        (Answer(401), Transient, "the store refuses access", "permissions"),
        (Answer(403), Transient, "the store refuses access", "permissions"),
        (Answer(501), Refused, "the store does not know a request that is needed", "only if it is absent"),
        (Answer(400, "BadDigest"), Transient, "the store does not take the request (BadDigest)", "endpoint"),
        (Answer(301), Transient, "the store does not take the request", "endpoint"),
        (Answer(429), Transient, "the store answered 429", "Look at the store"),
        (Answer(429, "SlowDown"), Transient, "the store answered SlowDown", "Look at the store"),
    ],
)
def test_every_answer_has_a_message_and_an_advice(
    answer: Answer, kind: type[Exception], message: str, advice: str
) -> None:
    error = translate(answer, ADVICE, bucket="b")
    assert isinstance(error, kind)
    assert error.message == message
    assert advice in error.advice
    assert error.where["bucket"] == "b"

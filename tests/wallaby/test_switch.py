"""On and off are the same words everywhere."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from wallaby.cli.flags import long_flags
from wallaby.flow.transforms import TransformOptions, sink_options, write_mode
from wallaby.sink import WriteMode
from wallaby.switch import OFF, ON, switched


@pytest.mark.parametrize("value", [*sorted(ON | OFF), "Yes", "OFF", True, False, 1, 0])
def test_a_word_means_the_same_to_flow_files_and_flags(value: Any) -> None:
    assert switched(value) is TypeAdapter(bool).validate_python(value)
    if isinstance(value, str):
        assert long_flags([f"--json={value}"]) == ["--json" if switched(value) else "--no-json"]


@pytest.mark.parametrize("value", ["", "2", "ja", 2, None, 1.5, [True]])
def test_other_words_are_neither(value: Any) -> None:
    assert switched(value) is None
    with pytest.raises(ValidationError):
        TypeAdapter(bool).validate_python(value)


@pytest.mark.parametrize("word", sorted(ON))
def test_append_mode_is_a_log_by_any_word(word: str) -> None:
    options = {"append_mode": word}
    assert write_mode(options) is WriteMode.APPEND
    assert sink_options(options) == {"write_mode": "append"}
    assert TransformOptions.of(options, mode=write_mode(options)).append_mode

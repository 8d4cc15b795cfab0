"""The error tree: pickling, text, and what may not be in it."""

from __future__ import annotations

import pickle

import pytest

from wallaby import errors
from wallaby.errors import Retry, WallabyError

CLASSES = [value for name in errors.__all__ if issubclass(value := getattr(errors, name), WallabyError)]


@pytest.mark.parametrize("error_class", CLASSES)
def test_every_error_pickles_with_its_fields(error_class: type[WallabyError]) -> None:
    error = error_class("it broke", advice="Mend it", lane="f/d/0", table=None)
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is error_class
    assert (copy.message, copy.advice, copy.where) == ("it broke", "Mend it", {"lane": "f/d/0"})
    assert str(copy) == "it broke [lane f/d/0]. Mend it"
    assert copy.retry in set(Retry)

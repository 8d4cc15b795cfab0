"""What a store's answer means, in the same words for all. Texts of stores are never shown: they quote addresses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from wallaby.errors import OutcomeUnknown, Refused, Transient, WallabyError

_NOT_IMPLEMENTED: Final = 501


@dataclass(frozen=True, slots=True)
class Answer:
    """How a request ended that did not succeed."""

    status: int = 0
    """Of HTTP; 0 when there was no answer."""
    code: str = ""
    """The store's own word for it; empty when it said none."""
    is_absent: bool = False
    """True when a key is not there, or may be meant by what also says that the bucket is not."""
    is_missing_place: bool = False
    """True when the bucket or container itself is not there."""
    is_without_keys: bool = False
    """True when nothing was done: there are no keys, their time is over, or who makes keys of them refused."""

    @property
    def is_unanswered(self) -> bool:
        """True when the store may have done what was asked."""
        if self.is_without_keys:
            return False
        return self.status == 0 or (self.status >= 500 and self.status != _NOT_IMPLEMENTED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """What a store's operator can look at."""

    place: str
    """What holds the objects: the option's name, too."""
    keys: str
    """How to give keys."""
    address: str
    """The options by which the store is found."""


@contextmanager
def translating(
    raised: tuple[type[Exception], ...],
    answer: Callable[[Exception], Answer],
    advice: Advice,
    *,
    absent_is_place: bool = False,
    **where: Any,
) -> Iterator[None]:
    """Around requests that change nothing that counts: what a store's client raises, as ``answer`` reads it, is ours.

    FileNotFoundError for an absent key, unless ``absent_is_place``; else `Transient`, and `Refused` for a request the
    store does not know.
    """
    try:
        yield
    except raised as error:
        said = answer(error)
        if said.is_absent and not absent_is_place:
            raise FileNotFoundError("no such key") from None
        # Without a cause on purpose: texts may quote the address with what is in it.
        raise translate(said, advice, **where) from None


def translate(answer: Answer, advice: Advice, **where: Any) -> WallabyError:
    """Our error for a request that was refused or not answered."""
    if answer.is_without_keys:
        return Transient("there are no valid keys for the store", advice=advice.keys, **where)
    if answer.is_missing_place:
        return Transient(f"the {advice.place} does not exist", advice=f"Create it, or correct {advice.place}", **where)
    if answer.status in (401, 403):
        return Transient(
            "the store refuses access",
            advice="Look at the keys or the permissions: reading, writing, listing and deleting are needed",
            **where,
        )
    if answer.status == _NOT_IMPLEMENTED:
        return Refused(
            "the store does not know a request that is needed",
            advice="Use a store that can make an object only if it is absent",
            **where,
        )
    if answer.status in (301, 307, 400):
        said = f" ({answer.code})" if answer.code else ""
        return Transient(f"the store does not take the request{said}", advice=f"Look at {advice.address}", **where)
    if answer.is_unanswered:
        return Transient("the store does not answer", advice=f"Look at {advice.address} and the network", **where)
    return Transient(f"the store answered {answer.code or answer.status}", advice="Look at the store", **where)


def creation_error(answer: Answer, advice: Advice, **where: Any) -> WallabyError:
    """The same for the creation of an object, which may have happened without an answer."""
    if answer.is_unanswered:
        return OutcomeUnknown(
            "the store did not answer while an object was made", advice="The manifests decide: recover", **where
        )
    return translate(answer, advice, **where)


__all__ = ["Advice", "Answer", "creation_error", "translate", "translating"]

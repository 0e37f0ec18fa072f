from __future__ import annotations

import pickle

import pytest

from recpipe import errors
from recpipe.errors import RecpipeError

CLASSES = [RecpipeError, *RecpipeError.__subclasses__()]


def test_exit_codes_are_the_documented_ones() -> None:
    assert {kind.__name__: kind.exit_code for kind in CLASSES} == {
        "RecpipeError": 1,
        "ConfigError": 2,
        "DataError": 3,
        "MissingInputError": 4,
        "UnavailableError": 5,
        "LockedError": 6,
        "GateError": 7,
    }
    for kind in CLASSES:
        assert f"{kind.__name__} " in str(errors.__doc__)


def test_an_error_says_what_where_and_what_next() -> None:
    error = RecpipeError("it broke", where="line 3", next_step="mend it")
    assert str(error) == "it broke\n  where: line 3\n  next:  mend it"
    assert str(RecpipeError("it broke")) == "it broke"


@pytest.mark.parametrize("kind", CLASSES)
def test_errors_cross_process_boundaries_whole(kind: type[RecpipeError]) -> None:
    error = pickle.loads(pickle.dumps(kind("what", where="where", next_step="next")))
    assert type(error) is kind
    assert (error.what, error.where, error.next_step) == ("what", "where", "next")

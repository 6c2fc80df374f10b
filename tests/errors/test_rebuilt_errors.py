"""Every error can be made again from its ``args`` or from its dictionary, and survives a queue."""

from __future__ import annotations

import asyncio
import copy
import json
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st
from redis_server import RedisServer, running_redis
from stores import spawned
from waiting import SECONDS

from mioesim_async import errors
from mioesim_async.errors import MioEsimError

CLASSES = [getattr(errors, name) for name in errors.__all__]
LEFT_OUT = {"data", "last_error", "tally", "report", "line", "__notes__"}
SECRET = "LPA:1$smdp.example$MADE-UP"

SET = {
    errors.InvalidRequest: ("first", "second"),
    errors.DeadlineExceeded: ("late", errors.ConnectError(SECRET)),
    errors.RateLimited: ("slow down", 2.5),
    errors.ProtocolError: ("cut off", "truncated"),
    errors.HttpStatusError: ("HTTP status 502", 502, 1.5),
}
SET_BY_NAME: dict[type[MioEsimError], dict[str, Any]] = {
    errors.OutcomeUnknown: {"order_num": "EP1", "data": SECRET, "last_error": MioEsimError(SECRET)},
    errors.OrderIncomplete: {"order_num": "EP1", "data": SECRET, "last_error": MioEsimError("x")},
    errors.DuplicateOrder: {"other_order_id": "r", "order_num": "EP1"},
    errors.SpendLimitReached: {
        "max_spend": Decimal("10.50"), "spent": Decimal("9.90"), "line": SECRET,
    },
}  # fmt: skip


def made(cls: type[MioEsimError]) -> MioEsimError:
    """Make an error of a class with all its fields set."""
    if issubclass(cls, errors.ApiError):
        error: MioEsimError = cls("/x", "E-3", "no such card", {"code": SECRET}, "check it")
    else:
        error = cls(*SET.get(cls, ("what happened",)), **SET_BY_NAME.get(cls, {}))
    if isinstance(error, errors.ProtocolError):
        error.data = SECRET
    error.other_order_id, error.was_placed = "reference-1", True
    error.tally, error.report = {"found": SECRET}, [SECRET]
    error.add_note("a note")
    return error.at("/api_esim/x")


def fields_of(error: MioEsimError) -> dict[str, Any]:
    """Return all fields of an error that a queue must keep."""
    return {name: value for name, value in vars(error).items() if name not in LEFT_OUT}


def by_args(error: MioEsimError) -> MioEsimError:
    return type(error)(*error.args)


def by_args_in_json(error: MioEsimError) -> MioEsimError:
    return type(error)(*json.loads(json.dumps(error.args, allow_nan=False)))


def by_dict(error: MioEsimError) -> MioEsimError:
    return errors.from_dict(json.loads(json.dumps(errors.to_dict(error), allow_nan=False)))


WAYS = [by_args, by_args_in_json, by_dict]
every_class = pytest.mark.parametrize("cls", CLASSES, ids=errors.__all__)


@every_class
@pytest.mark.parametrize("way", WAYS)
def test_every_error_is_made_again_with_its_class_text_and_fields(
    cls: type[MioEsimError], way: Callable[[MioEsimError], MioEsimError]
) -> None:
    error = made(cls)
    again = way(error)

    assert type(again) is cls
    assert str(again) == str(error) != ""
    assert repr(again) == repr(error)
    assert fields_of(again) == fields_of(error)
    assert way(again).args == again.args == error.args


@every_class
def test_an_error_that_was_made_again_has_every_field_that_its_class_has(
    cls: type[MioEsimError],
) -> None:
    again = errors.from_dict({"type": cls.__name__})
    for name in vars(made(cls)):
        if name != "__notes__":
            assert hasattr(again, name), name
    assert again.was_placed is None


@every_class
def test_args_are_the_text_and_plain_values_without_any_secret(cls: type[MioEsimError]) -> None:
    error = made(cls)
    text, fields = error.args

    assert text == str(error)
    assert set(fields) == set(fields_of(error))
    for told in (json.dumps(error.args), json.dumps(errors.to_dict(error)), repr(error)):
        assert "MADE-UP" not in told


@every_class
def test_text_and_repr_don_t_show_the_fields(cls: type[MioEsimError]) -> None:
    error = made(cls)

    assert repr(error) == f"{cls.__name__}({str(error)!r})"
    assert "reference-1" not in repr(error) + str(error)


@every_class
def test_pickle_and_copy_keep_what_args_leave_out(cls: type[MioEsimError]) -> None:
    error = made(cls)
    for copied in (copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert type(copied) is cls
        assert str(copied) == str(error)
        assert vars(copied).keys() == vars(error).keys()
        assert (copied.tally, copied.report, copied.__notes__) == (
            error.tally, error.report, error.__notes__,
        )  # fmt: skip


def test_an_error_whose_text_is_changed_by_its_args_has_the_new_text() -> None:
    error = made(errors.NotFound)
    error.args = (f"card 7: {error.args[0]}", *error.args[1:])

    assert str(error).startswith("card 7: /x answered code E-3")
    assert error.code == "E-3"


def test_an_error_of_a_user_s_own_class_is_made_again() -> None:
    class NoSuchCard(errors.NotFound):
        def __init__(self, iccid: str) -> None:
            super().__init__("/x", -3, f"no card {iccid}")

    error = NoSuchCard("8985")

    assert type(by_args(error)) is NoSuchCard
    assert by_args(error).code == -3
    assert type(by_dict(error)) is errors.NotFound


# Junk


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


@settings(max_examples=60)
@given(
    cls=st.sampled_from(errors.__all__),
    junk=st.dictionaries(
        st.sampled_from([*errors.PLAIN_FIELDS, "text", "data", "last_error", "tally", "args"])
        | st.text(max_size=5),
        JSON,
    ),
)
def test_junk_in_the_fields_never_breaks_an_error(cls: str, junk: dict[str, Any]) -> None:
    error = errors.from_dict({**junk, "type": cls})

    assert type(error).__name__ == cls
    given_was_placed = junk.get("was_placed")
    assert error.was_placed is (given_was_placed if type(given_was_placed) is bool else None)
    assert str(error) == (junk["text"] if isinstance(junk.get("text"), str) else "")
    assert all(hasattr(type(error), name) for name in vars(error)), "fields of other classes"
    for name, kinds in errors.PLAIN_FIELDS.items():
        assert not hasattr(error, name) or type(getattr(error, name)) in kinds
    json.dumps(error.args, allow_nan=False)
    again = errors.from_dict(errors.to_dict(error))
    assert errors.to_dict(again) == errors.to_dict(error)


@given(st.one_of(JSON, st.dictionaries(st.sampled_from(["type", "text", "was_placed"]), JSON)))
def test_whatever_is_given_becomes_an_error_of_this_module(junk: Any) -> None:
    error = errors.from_dict(junk)

    assert type(error) in CLASSES
    if not isinstance(junk, dict) or junk.get("type") not in errors.__all__:
        assert type(error) is MioEsimError


@pytest.mark.parametrize(
    "name", ["SystemExit", "os.system", "Decimal", "_Revivable", "to_dict", "E", "__name__", ""]
)
def test_a_name_that_is_no_error_of_this_module_becomes_the_base_class(name: str) -> None:
    error = errors.from_dict({"type": name, "text": "what happened", "was_placed": False})

    assert type(error) is MioEsimError
    assert (str(error), error.was_placed) == ("what happened", False)


@pytest.mark.parametrize("value", ["yes", 1, 0, "False", [], {}, "None"])
def test_a_malformed_was_placed_is_none(value: object) -> None:
    plain = errors.to_dict(made(errors.OrderIncomplete))
    assert errors.from_dict(plain).was_placed is True
    plain["was_placed"] = value
    assert errors.from_dict(plain).was_placed is None
    del plain["was_placed"]
    assert errors.from_dict(plain).was_placed is None


# Queues

WORKER = """
import sys
from celery import Celery
from mioesim_async import errors

app = Celery("shop", broker=sys.argv[1], backend=sys.argv[1])
app.conf.broker_connection_retry_on_startup = False

@app.task(name="fail")
def fail(plain):
    raise errors.from_dict(plain)

options = ("--without-gossip", "--without-mingle", "--without-heartbeat")
app.worker_main(["worker", "--pool=solo", "--loglevel=CRITICAL", *options])
"""


@pytest.fixture(scope="module")
def redis_server() -> Iterator[RedisServer]:
    with running_redis() as server:
        yield server


def check_same(again: Any, error: MioEsimError) -> None:
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert fields_of(again) == fields_of(error)


@contextmanager
def closed(app: Any) -> Iterator[None]:
    """Close the connections of a Celery app's results at the end of the block."""
    try:
        yield
    finally:
        # Celery makes the pool itself, so that closing its client leaves the connections open.
        app.backend.client.connection_pool.disconnect()


@pytest.mark.filterwarnings("ignore:Call to deprecated setex:DeprecationWarning")
def test_every_error_survives_celery_s_results_as_json(redis_server: RedisServer) -> None:
    from celery import Celery
    from celery.result import AsyncResult

    with Celery("shop", broker="memory://", backend=redis_server.url, set_as_current=False) as app:
        app.conf.update(result_serializer="json", accept_content=["json"])
        with closed(app):
            for cls in CLASSES:
                error, task = made(cls), cls.__name__
                app.backend.mark_as_failure(task, error)
                check_same(AsyncResult(task, app=app).result, error)
                stored = app.backend.get(app.backend.get_key_for_task(task))
                assert b"MADE-UP" not in stored


async def test_every_error_survives_taskiq_s_results_as_json(redis_server: RedisServer) -> None:
    from taskiq import TaskiqResult
    from taskiq.serializers import JSONSerializer
    from taskiq_redis import RedisAsyncResultBackend

    backend: Any = RedisAsyncResultBackend(redis_server.url, serializer=JSONSerializer())
    try:
        for cls in CLASSES:
            error, task = made(cls), cls.__name__
            result = TaskiqResult(is_err=True, return_value=None, execution_time=0.1, error=error)
            await backend.set_result(task, result)
            check_same((await backend.get_result(task)).error, error)
    finally:
        await backend.shutdown()


@pytest.mark.filterwarnings("ignore:Call to deprecated setex:DeprecationWarning")
async def test_what_a_task_in_a_celery_worker_raises_is_raised_where_its_result_is_asked_for(
    redis_server: RedisServer,
) -> None:
    from celery import Celery

    def ask() -> None:
        app = Celery("shop", broker=url, backend=url, set_as_current=False)
        with app, closed(app):
            for cls in CLASSES:
                error = made(cls)
                result = app.send_task("fail", [errors.to_dict(error)])
                with pytest.raises(cls) as caught:
                    result.get(timeout=SECONDS)
                check_same(caught.value, error)
            app.backend.result_consumer.stop()

    url = redis_server.url
    async with spawned(WORKER, url):
        await asyncio.to_thread(ask)

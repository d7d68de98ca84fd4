"""The common half of the fakes: the log of calls, and everything that can go wrong on the way."""

from __future__ import annotations

import gzip
import time
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from tests.world.calls import Call
from tests.world.faults import (
    Alter,
    Cut,
    Delay,
    Garbage,
    Hang,
    Hold,
    ResetAfter,
    ResetBefore,
    SlowBytes,
    Status,
)
from tests.world.server import Fake, route


class Till(Fake):
    """A company that counts."""

    base = "/api"

    def __init__(self) -> None:
        super().__init__()
        self.sold = 0

    @route("POST", "/sell/{what}")
    def sell(self, call: Call, what: str) -> dict[str, Any]:
        self.sold += 1
        return {"sold": what}

    @route("GET", "/broken")
    def broken(self, call: Call) -> None:
        raise KeyError("a bug")


@pytest.fixture
def till() -> Iterator[Till]:
    with Till() as till:
        yield till


def sell(till: Till, *, timeout: float = 5) -> requests.Response:
    return requests.post(f"{till.url}/sell/tea?x=1", json={"a": 1}, headers={"X-Own": "yes"}, timeout=timeout)


def test_a_call_is_kept_as_it_came(till: Till) -> None:
    assert sell(till).json() == {"sold": "tea"}

    [call] = till.calls
    assert (call.method, call.path, call.query, call.json) == ("POST", "/api/sell/tea", {"x": "1"}, {"a": 1})
    assert call.headers["x-own"] == "yes"
    assert call.at.tzinfo is not None


def test_a_path_without_the_base_is_not_found(till: Till) -> None:
    assert requests.post(f"http://127.0.0.1:{till.port}/sell/tea", timeout=5).status_code == 404
    assert [refusal.status for refusal in till.refusals] == [404]
    assert till.sold == 0


def test_a_fault_waits_for_its_call_and_goes_away(till: Till) -> None:
    script = till.fail("/sell/", how=Status(503, {"message": "later"}), times=2, skip=1)

    assert [sell(till).status_code for _ in range(5)] == [200, 503, 503, 200, 200]
    assert till.sold == 3
    assert script.seen == 3


def test_a_fault_is_chosen_by_a_function_and_healed(till: Till) -> None:
    till.fail(lambda call: call.json == {"a": 1}, how=Status(500), times=None)
    assert sell(till).status_code == 500

    till.heal()
    assert sell(till).status_code == 200


def test_reset_before_does_nothing(till: Till) -> None:
    till.fail("/sell/", how=ResetBefore())

    with pytest.raises(requests.ConnectionError):
        sell(till)
    assert till.sold == 0


def test_reset_after_has_done_its_work(till: Till) -> None:
    till.fail("/sell/", how=ResetAfter())

    with pytest.raises(requests.ConnectionError, match=r"reset|aborted"):
        sell(till)
    assert till.sold == 1


@pytest.mark.parametrize("after", [False, True])
def test_hang_never_answers(till: Till, after: bool) -> None:
    till.fail("/sell/", how=Hang(after=after))

    with pytest.raises(requests.ReadTimeout):
        sell(till, timeout=0.1)
    till.wait_for(lambda: till.sold == int(after))


def test_hold_answers_when_told(till: Till) -> None:
    hold = Hold()
    till.fail("/sell/", how=hold)

    with pytest.raises(requests.ReadTimeout):
        sell(till, timeout=0.1)
    assert hold.reached.is_set()
    assert till.sold == 0
    hold.release()
    till.wait_for(lambda: till.sold == 1)


def test_delay_is_late_but_right(till: Till) -> None:
    till.fail("/sell/", how=Delay(0.1))

    began = time.monotonic()
    assert sell(till).json() == {"sold": "tea"}
    assert time.monotonic() - began >= 0.1


def test_garbage_comes_with_its_own_status_and_headers(till: Till) -> None:
    till.fail("/sell/", how=Garbage(b"<html>"))

    answer = sell(till)
    assert (answer.status_code, answer.text, answer.headers["content-type"]) == (200, "<html>", "text/html")


def test_a_small_answer_can_be_large_inside(till: Till) -> None:
    bomb = gzip.compress(b"0" * 1_000_000)
    till.fail("/sell/", how=Garbage(bomb, headers={"Content-Encoding": "gzip"}))

    assert len(sell(till).content) == 1_000_000


def test_a_lie_is_made_of_the_truth(till: Till) -> None:
    till.fail("/sell/", how=Alter(lambda true: {**true, "sold": "gold"}))
    till.fail("/sell/", how=Alter(lambda _: b'{"value": NaN, "value": 1}'))

    assert sell(till).json() == {"sold": "gold"}
    assert sell(till).text == '{"value": NaN, "value": 1}'
    assert till.sold == 2


def test_slow_bytes_outlast_a_read_timeout_only_in_sum(till: Till) -> None:
    till.fail("/sell/", how=SlowBytes(gap=0.01))

    began = time.monotonic()
    assert sell(till, timeout=1).json() == {"sold": "tea"}
    assert time.monotonic() - began > 0.1


def test_half_an_answer_is_an_error(till: Till) -> None:
    till.fail("/sell/", how=Cut(5))

    with pytest.raises((requests.ConnectionError, requests.exceptions.ChunkedEncodingError)):
        sell(till)


def test_a_redirect_says_where(till: Till) -> None:
    till.fail("/sell/", how=Status(302, headers={"Location": f"{till.url}/elsewhere"}))

    answer = requests.post(f"{till.url}/sell/tea", allow_redirects=False, timeout=5)
    assert answer.headers["location"] == f"{till.url}/elsewhere"


def test_an_outage_ends_on_the_same_port() -> None:
    till = Till().start()
    port = till.port
    till.stop()
    with pytest.raises(requests.ConnectionError):
        sell(till)

    till.start()
    assert till.port == port
    assert sell(till).ok
    till.stop()


def test_waiting_in_vain_tells_the_story(till: Till) -> None:
    sell(till)

    with pytest.raises(AssertionError, match="POST /api/sell/tea"):
        till.wait_for(lambda: till.sold == 2, timeout=0.05)


def test_a_bug_of_the_fake_comes_out_at_its_end() -> None:
    till = Till().start()
    assert requests.get(f"{till.url}/broken", timeout=5).status_code == 500

    with pytest.raises(KeyError, match="a bug"):
        till.stop()


def test_stopping_does_not_wait_for_those_who_hang() -> None:
    with Till() as till:
        till.fail("/sell/", how=Hang())
        with pytest.raises(requests.ReadTimeout):
            sell(till, timeout=0.05)
        began = time.monotonic()
    assert time.monotonic() - began < 10

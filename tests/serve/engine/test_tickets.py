"""The queue in front of the worker."""

import pytest
from live import Clock

from mlx_diffgemma.serve.engine.engine import Cancellation
from mlx_diffgemma.serve.engine.tickets import Figures, Queue, Ticket
from mlx_diffgemma.serve.refusal import STOPPING, Refusal


def waiting(queue: Queue, got: list | None = None) -> Ticket:
    """A ticket in line; got: what it is delivered."""
    ticket = queue.reserve()
    ticket.begin(lambda cancelled, stopping: iter(()), [].append if got is None else got.append)
    return ticket


def taken(queue: Queue) -> Ticket | None:
    with queue.changed:
        return queue.take()


def test_who_comes_first_is_served_first():
    queue = Queue(8)
    tickets = [waiting(queue) for _ in range(3)]
    assert [taken(queue) for _ in range(4)] == [*tickets, None]


def test_places_are_counted_from_the_reservation_on():
    queue = Queue(1)
    first, second = queue.reserve(), queue.reserve()
    with pytest.raises(Refusal, match="2 requests are waiting or being answered") as refused:
        queue.reserve()
    assert (refused.value.kind, refused.value.retry_after) == ("full", 1)
    first.cancel()
    waiting(queue)
    second.cancel()
    second.cancel()  # once more frees nothing
    queue.reserve()
    assert queue.figures() == Figures(places=2, waiting=1, refused=1)


def test_the_time_to_come_again_follows_from_what_answers_took():
    clock = Clock()
    queue = Queue(3, clock)
    for _ in range(2):
        ticket = waiting(queue)
        taken(queue)
        clock.now += 9.0
        queue.over(ticket, None)
    for _ in range(4):
        queue.reserve()
    with pytest.raises(Refusal) as refused:
        queue.reserve()
    assert refused.value.retry_after == 18  # half of four answers of 9 s


def test_a_cancelled_one_that_waits_never_runs_and_hears_of_it_once():
    queue, got = Queue(8), []
    ticket, other = waiting(queue, got), waiting(queue)
    ticket.cancel()
    ticket.cancel()
    assert taken(queue) is other
    assert [type(end.error) for end in got] == [Cancellation]
    assert queue.figures().cancelled == 1


def test_one_that_runs_is_told():
    queue, got = Queue(8), []
    ticket = waiting(queue, got)
    taken(queue)
    ticket.cancel()
    assert ticket.is_cancelled()
    assert not got
    queue.over(ticket, Cancellation())
    assert isinstance(got[0].error, Cancellation)
    assert queue.figures().places == 0


def test_a_place_is_free_before_its_end_is_heard_of():
    queue, places = Queue(0), []
    ticket = queue.reserve()
    ticket.begin(lambda *_: iter(()), lambda item: places.append(queue.figures().places))
    taken(queue)
    queue.over(ticket, None)
    assert places == [0]


def test_a_place_given_up_cannot_begin():
    ticket = Queue(8).reserve()
    ticket.cancel()
    with pytest.raises(Cancellation):
        ticket.begin(lambda *_: iter(()), print)


def test_a_closed_queue_sends_away_who_waits_and_who_comes():
    queue, got = Queue(8, Clock()), []
    running, reserved = waiting(queue), queue.reserve()
    taken(queue)
    waiting(queue, got)
    queue.close(STOPPING)
    assert [end.error.kind for end in got] == ["stopping"]
    for late in (queue.reserve, lambda: reserved.begin(lambda *_: iter(()), print)):
        with pytest.raises(Refusal) as refused:
            late()
        assert refused.value is not STOPPING  # or it would remember everyone who raised it
    assert not running.is_cancelled()
    assert queue.figures() == Figures(places=1, running=1, refused=3)
    queue.close(STOPPING, now=True)
    assert running.is_cancelled()


def test_seconds_are_summed():
    clock = Clock()
    queue = Queue(8, clock)
    first, second = waiting(queue), waiting(queue)
    clock.now += 2
    taken(queue)
    clock.now += 3
    queue.over(first, None)
    taken(queue)
    queue.over(second, Refusal("internal", "no."))
    figures = queue.figures()
    assert (figures.waited_seconds, figures.running_seconds) == (7.0, 3.0)
    assert (figures.answered, figures.failed) == (1, 1)

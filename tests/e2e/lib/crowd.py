"""Many calls at once."""

import threading

import grpc


class Crowd:
    """Keeps `concurrency` calls in flight until `total` have been made.

    start(number) starts one and returns its future; numbers count from 0.
    `until`, an Event, ends it early. When the constructor returns, all calls
    have ended.
    """

    def __init__(self, concurrency, total, start, until=None):
        self._slots = threading.Semaphore(concurrency)
        self.answers = []
        self.numbers_answered = []
        self.errors = []
        for number in range(total):
            if until is not None and until.is_set():
                break
            self._slots.acquire()  # pylint: disable=consider-using-with
            start(number).add_done_callback(
                lambda call, n=number: self._done(call, n))
        for _ in range(concurrency):
            self._slots.acquire()  # pylint: disable=consider-using-with

    def _done(self, call, number):
        if call.code() == grpc.StatusCode.OK:
            self.answers.append(call.result())
            self.numbers_answered.append(number)
        else:
            self.errors.append(call)
        self._slots.release()

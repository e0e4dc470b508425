"""Calls that can be told apart, many at once, and how they ended."""

import threading

import grpc
from hotline.v1 import broker_pb2 as pb

import hotlined


def run(concurrency, total, start):
    """Keeps `concurrency` calls in flight until `total` have been made.

    start(number) begins one and returns its future. All of them, ended, in
    the order of their numbers.
    """
    slots = threading.Semaphore(concurrency)
    calls = [None] * total

    def ended(number):
        def callback(call):
            calls[number] = call
            slots.release()
        return callback

    for number in range(total):
        slots.acquire()  # pylint: disable=consider-using-with
        start(number).add_done_callback(ended(number))
    for _ in range(concurrency):
        slots.acquire()  # pylint: disable=consider-using-with
    return calls


def request(url, number, method="GET", **fields):
    """An Execute that can be told from all others upstream, by X-Id."""
    body = b"payload" if method == "POST" else b""
    return pb.ExecuteRequest(
        url=url, method=method, body=body,
        headers=[pb.Header(name="X-Id", value=b"%d" % number)], **fields)


class Load:
    """Threads that call work(number) again and again until stop().

    Numbers are given out once each. `outcomes` is number -> what work()
    returned, or the RpcError it raised.
    """

    def __init__(self, threads, work):
        self.outcomes = {}
        self.bugs = []  # Whatever else was raised.
        self._work = work
        self._lock = threading.Lock()
        self._next = 0
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run)
                         for _ in range(threads)]
        for thread in self._threads:
            thread.start()

    def _run(self):
        while not self._stop.is_set():
            with self._lock:
                number = self._next
                self._next += 1
            try:
                outcome = self._work(number)
            except grpc.RpcError as error:
                outcome = error
            except Exception as bug:  # pylint: disable=broad-except
                self.bugs.append(bug)
                return
            with self._lock:
                self.outcomes[number] = outcome

    def done(self):
        """How many have ended so far."""
        with self._lock:
            return len(self.outcomes)

    def stop(self):
        """Lets what runs end; raises what was not a call's own failure."""
        self._stop.set()
        for thread in self._threads:
            thread.join()
        if self.bugs:
            raise self.bugs[0]
        return self.outcomes


def describe(error):
    """(code, reason, verdict) of an RpcError, by their names."""
    info = hotlined.error_details(error).get("ErrorInfo")
    return (error.code().name, info.reason if info else "",
            info.metadata["verdict"] if info and "verdict" in info.metadata
            else "")

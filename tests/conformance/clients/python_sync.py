"""Python's synchronous client: python_sync.py TRANSPORT ADDRESS [CA CERT KEY].

Prints "pass CASE" or "fail CASE: why" for each case, as all clients here do.
"""

import sys
import threading

import grpc

import conformance_pb2 as pb
import conformance_pb2_grpc
from python_cases import (METADATA, SIZES, SPECIAL_TEXT, ask, body,
                          channel_arguments, check, check_metadata, run)

Code = grpc.StatusCode
# No case takes long; a call that hangs fails.
LIMIT = 30


def refusal(call):
    """The error that `call` raises."""
    try:
        call()
    except grpc.RpcError as error:
        return error
    raise AssertionError("the call has not failed")


class Cases:
    def __init__(self, channel):
        self.stub = conformance_pb2_grpc.ConformanceStub(channel)
        self.absent = conformance_pb2_grpc.AbsentStub(channel)

    def empty_unary(self):
        check(self.stub.Nothing(pb.Empty(), timeout=LIMIT), pb.Empty())

    def large_unary(self):
        answer = self.stub.Unary(ask(271828, 314159), timeout=LIMIT)
        check(answer.body, body(314159))
        check(answer.received_bytes, 271828)

    def many_calls(self):
        calls = [self.stub.Unary.future(ask(i, 1000 + i), timeout=LIMIT)
                 for i in range(100)]
        for i, call in enumerate(calls):
            check(call.result().received_bytes, i)
            check(len(call.result().body), 1000 + i)

    def client_stream(self):
        answer = self.stub.ClientStream((ask(size) for size in SIZES),
                                        timeout=LIMIT)
        check(answer.received_bytes, sum(SIZES))

    def server_stream(self):
        answers = self.stub.ServerStream(ask(0, *SIZES), timeout=LIMIT)
        check([answer.body for answer in answers], [body(s) for s in SIZES])

    def ping_pong(self):
        """One message at a time."""
        turn = threading.Semaphore(0)

        def requests():
            for size in SIZES:
                yield ask(size, size)
                turn.acquire()
        received = 0
        answers = self.stub.Duplex(requests(), timeout=LIMIT)
        for size, answer in zip(SIZES, answers):
            received += size
            check(answer.body, body(size))
            check(answer.received_bytes, received)
            turn.release()
        check(list(answers), [])

    def duplex(self):
        """More in each direction than a window holds."""
        answers = list(self.stub.Duplex(
            (ask(100000, 50000, 50000) for _ in range(50)), timeout=LIMIT))
        check([a.body for a in answers], [body(50000)] * 100)
        check(answers[-1].received_bytes, 5000000)

    def empty_stream(self):
        check(list(self.stub.Duplex(iter(()), timeout=LIMIT)), [])

    def cancel_after_begin(self):
        go_on = threading.Event()

        def requests():
            go_on.wait()
            yield from ()
        call = self.stub.ClientStream.future(requests(), timeout=LIMIT)
        while self.stub.Count(pb.Empty(), timeout=LIMIT).running == 0:
            pass
        call.cancel()
        go_on.set()
        check(call.code(), Code.CANCELLED)

    def cancel_after_first_answer(self):
        go_on = threading.Event()

        def requests():
            yield ask(1, 1)
            go_on.wait()
        call = self.stub.Duplex(requests(), timeout=LIMIT)
        check(next(call).body, body(1))
        call.cancel()
        go_on.set()
        check(call.code(), Code.CANCELLED)

    def deadline(self):
        error = refusal(lambda: self.stub.Unary(pb.Ask(delay_ms=60000),
                                                timeout=0.5))
        check(error.code(), Code.DEADLINE_EXCEEDED)

    def status_codes(self):
        for code in Code:
            number, _ = code.value
            if number == 0:
                continue
            error = refusal(lambda n=number: self.stub.Unary(
                pb.Ask(status=n, status_text="text %d" % n), timeout=LIMIT))
            check((error.code(), error.details()),
                  (code, "text %d" % number))

    def status_text(self):
        error = refusal(lambda: self.stub.Unary(
            pb.Ask(status=2, status_text=SPECIAL_TEXT), timeout=LIMIT))
        check((error.code(), error.details()), (Code.UNKNOWN, SPECIAL_TEXT))

    def status_before_half_close(self):
        go_on = threading.Event()

        def requests():
            yield ask(1, 1)
            yield pb.Ask(status=9, status_text="enough")
            go_on.wait()
        call = self.stub.Duplex(requests(), timeout=LIMIT)
        check(next(call).body, body(1))
        error = refusal(lambda: next(call))
        check((error.code(), error.details()),
              (Code.FAILED_PRECONDITION, "enough"))
        go_on.set()

    def status_details(self):
        error = refusal(lambda: self.stub.Unary(
            pb.Ask(status=3, status_text="bad", details=True), timeout=LIMIT))
        check(error.code(), Code.INVALID_ARGUMENT)
        details = dict(error.trailing_metadata())["grpc-status-details-bin"]
        check(b"BAD_MESSAGE" in details, True)

    def unknown_method(self):
        error = refusal(lambda: self.stub.Unserved(pb.Empty(), timeout=LIMIT))
        check(error.code(), Code.UNIMPLEMENTED)

    def unknown_service(self):
        error = refusal(lambda: self.absent.Nothing(pb.Empty(), timeout=LIMIT))
        check(error.code(), Code.UNIMPLEMENTED)

    def metadata(self):
        _, call = self.stub.Metadata.with_call(
            ask(0), metadata=METADATA, timeout=LIMIT)
        check_metadata(call.initial_metadata(), "head-")
        check_metadata(call.trailing_metadata(), "trail-")

    def _compressed(self, compression, name):
        answer = self.stub.Unary(ask(271828, 314159), timeout=LIMIT,
                                 compression=compression)
        check(answer.encoding, name)
        check(answer.received_bytes, 271828)
        check(answer.body, body(314159))
        answers = list(self.stub.Duplex(
            (ask(size, size) for size in SIZES), timeout=LIMIT,
            compression=compression))
        check(answers[-1].encoding, name)
        check([a.body for a in answers], [body(s) for s in SIZES])

    def gzip(self):
        self._compressed(grpc.Compression.Gzip, "gzip")

    def deflate(self):
        self._compressed(grpc.Compression.Deflate, "deflate")

    def oversized_message(self):
        error = refusal(lambda: self.stub.Unary(ask(9 << 20), timeout=LIMIT))
        check(error.code(), Code.RESOURCE_EXHAUSTED)
        self.empty_unary()

    def oversized_metadata(self):
        error = refusal(lambda: self.stub.Nothing(
            pb.Empty(), metadata=[("large", "x" * 20480)], timeout=LIMIT))
        check(error.code(), Code.RESOURCE_EXHAUSTED)
        self.empty_unary()


def main():
    target, credentials, options = channel_arguments(sys.argv)
    if credentials is None:
        channel = grpc.insecure_channel(target, options=options)
    else:
        channel = grpc.secure_channel(target, credentials, options=options)
    with channel:
        cases = Cases(channel)
        return run(cases)


if __name__ == "__main__":
    sys.exit(main())

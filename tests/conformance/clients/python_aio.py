"""Python's asyncio client: python_aio.py TRANSPORT ADDRESS [CA CERT KEY].

Prints "pass CASE" or "fail CASE: why" for each case, as all clients here do.
"""

import asyncio
import sys

import grpc
from grpc import aio

import conformance_pb2 as pb
import conformance_pb2_grpc
from python_cases import (METADATA, SIZES, SPECIAL_TEXT, ask, body,
                          channel_arguments, check, check_metadata, run_async)

Code = grpc.StatusCode
# No case takes long; a call that hangs fails.
LIMIT = 30


async def refusal(call):
    """The error that awaiting `call` raises."""
    try:
        await call
    except aio.AioRpcError as error:
        return error
    raise AssertionError("the call has not failed")


async def cancelled(call):
    """Whether it has ended as cancelled."""
    check(await call.code(), Code.CANCELLED)
    check(call.cancelled(), True)


class Cases:
    def __init__(self, channel):
        self.stub = conformance_pb2_grpc.ConformanceStub(channel)
        self.absent = conformance_pb2_grpc.AbsentStub(channel)

    async def empty_unary(self):
        check(await self.stub.Nothing(pb.Empty(), timeout=LIMIT), pb.Empty())

    async def large_unary(self):
        answer = await self.stub.Unary(ask(271828, 314159), timeout=LIMIT)
        check(answer.body, body(314159))
        check(answer.received_bytes, 271828)

    async def many_calls(self):
        answers = await asyncio.gather(
            *(self.stub.Unary(ask(i, 1000 + i), timeout=LIMIT)
              for i in range(100)))
        for i, answer in enumerate(answers):
            check(answer.received_bytes, i)
            check(len(answer.body), 1000 + i)

    async def client_stream(self):
        call = self.stub.ClientStream(timeout=LIMIT)
        for size in SIZES:
            await call.write(ask(size))
        await call.done_writing()
        check((await call).received_bytes, sum(SIZES))

    async def server_stream(self):
        call = self.stub.ServerStream(ask(0, *SIZES), timeout=LIMIT)
        check([answer.body async for answer in call], [body(s) for s in SIZES])

    async def ping_pong(self):
        received = 0
        call = self.stub.Duplex(timeout=LIMIT)
        for size in SIZES:
            received += size
            await call.write(ask(size, size))
            answer = await call.read()
            check(answer.body, body(size))
            check(answer.received_bytes, received)
        await call.done_writing()
        check(await call.read(), aio.EOF)
        check(await call.code(), Code.OK)

    async def duplex(self):
        """More in each direction than a window holds."""
        call = self.stub.Duplex((ask(100000, 50000, 50000) for _ in range(50)),
                                timeout=LIMIT)
        answers = [answer async for answer in call]
        check([a.body for a in answers], [body(50000)] * 100)
        check(answers[-1].received_bytes, 5000000)

    async def empty_stream(self):
        call = self.stub.Duplex(timeout=LIMIT)
        await call.done_writing()
        check(await call.read(), aio.EOF)
        check(await call.code(), Code.OK)

    async def cancel_after_begin(self):
        call = self.stub.ClientStream(timeout=LIMIT)
        while (await self.stub.Count(pb.Empty(), timeout=LIMIT)).running == 0:
            pass
        call.cancel()
        await cancelled(call)

    async def cancel_after_first_answer(self):
        call = self.stub.Duplex(timeout=LIMIT)
        await call.write(ask(1, 1))
        check((await call.read()).body, body(1))
        call.cancel()
        await cancelled(call)

    async def deadline(self):
        error = await refusal(self.stub.Unary(pb.Ask(delay_ms=60000),
                                              timeout=0.5))
        check(error.code(), Code.DEADLINE_EXCEEDED)

    async def status_codes(self):
        for code in Code:
            number, _ = code.value
            if number == 0:
                continue
            text = "text %d" % number
            call = self.stub.Unary(pb.Ask(status=number, status_text=text),
                                   timeout=LIMIT)
            check((await call.code(), await call.details()), (code, text))

    async def status_text(self):
        error = await refusal(self.stub.Unary(
            pb.Ask(status=2, status_text=SPECIAL_TEXT), timeout=LIMIT))
        check((error.code(), error.details()), (Code.UNKNOWN, SPECIAL_TEXT))

    async def status_before_half_close(self):
        call = self.stub.Duplex(timeout=LIMIT)
        await call.write(ask(1, 1))
        check((await call.read()).body, body(1))
        await call.write(pb.Ask(status=9, status_text="enough"))
        error = await refusal(call.read())
        check((error.code(), error.details()),
              (Code.FAILED_PRECONDITION, "enough"))

    async def status_details(self):
        error = await refusal(self.stub.Unary(
            pb.Ask(status=3, status_text="bad", details=True), timeout=LIMIT))
        check(error.code(), Code.INVALID_ARGUMENT)
        details = error.trailing_metadata()["grpc-status-details-bin"]
        check(b"BAD_MESSAGE" in details, True)

    async def unknown_method(self):
        error = await refusal(self.stub.Unserved(pb.Empty(), timeout=LIMIT))
        check(error.code(), Code.UNIMPLEMENTED)

    async def unknown_service(self):
        error = await refusal(self.absent.Nothing(pb.Empty(), timeout=LIMIT))
        check(error.code(), Code.UNIMPLEMENTED)

    async def metadata(self):
        call = self.stub.Metadata(ask(0), metadata=METADATA, timeout=LIMIT)
        check_metadata(await call.initial_metadata(), "head-")
        check_metadata(await call.trailing_metadata(), "trail-")
        await call

    async def _compressed(self, compression, name):
        answer = await self.stub.Unary(ask(271828, 314159), timeout=LIMIT,
                                       compression=compression)
        check(answer.encoding, name)
        check(answer.received_bytes, 271828)
        check(answer.body, body(314159))
        call = self.stub.Duplex((ask(size, size) for size in SIZES),
                                timeout=LIMIT, compression=compression)
        answers = [answer async for answer in call]
        check(answers[-1].encoding, name)
        check([a.body for a in answers], [body(s) for s in SIZES])

    async def gzip(self):
        await self._compressed(grpc.Compression.Gzip, "gzip")

    async def deflate(self):
        await self._compressed(grpc.Compression.Deflate, "deflate")

    async def oversized_message(self):
        error = await refusal(self.stub.Unary(ask(9 << 20), timeout=LIMIT))
        check(error.code(), Code.RESOURCE_EXHAUSTED)
        await self.empty_unary()

    async def oversized_metadata(self):
        error = await refusal(self.stub.Nothing(
            pb.Empty(), metadata=[("large", "x" * 20480)], timeout=LIMIT))
        check(error.code(), Code.RESOURCE_EXHAUSTED)
        await self.empty_unary()


async def main():
    target, credentials, options = channel_arguments(sys.argv)
    if credentials is None:
        channel = aio.insecure_channel(target, options=options)
    else:
        channel = aio.secure_channel(target, credentials, options=options)
    async with channel:
        return await run_async(Cases(channel))


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))

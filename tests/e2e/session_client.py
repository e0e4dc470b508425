"""Callers for tests to kill: each takes leases in a Session and holds them.

session_client.py ADDRESS TARGET LEASES [busy]

For each line on standard input one caller is forked (before anything of gRPC
runs, so it costs little). It prints "PID holding" once it has its leases.
Busy: it calls on them again and again, and prints "PID wrong" when an answer is
not its own.
"""

import os
import signal
import sys

import grpc
from hotline.v1 import broker_pb2 as pb
from hotline.v1 import broker_pb2_grpc

import sessions


class Server:  # pylint: disable=too-few-public-methods
    """As much of a server as a Session needs."""

    def __init__(self, address):
        self.broker = broker_pb2_grpc.BrokerStub(grpc.insecure_channel(address))


def say(what):
    os.write(1, b"%d %s\n" % (os.getpid(), what))


def call(target, lease, ident):
    return pb.ExecuteRequest(url=target + "/", lease_id=lease, headers=[
        pb.Header(name="X-Id", value=ident)])


def hold(address, target, leases, how=""):
    session = sessions.Session(Server(address))
    held = session.ask(acquire=[pb.AcquireRequest(target=target)
                                for _ in range(int(leases))])
    ids = [r.acquire.lease.lease_id for r in held]
    say(b"holding")
    calls = 0
    while True:
        if how != "busy":
            session.next()  # Nothing comes.
        idents = [b"%d-%d-%d" % (os.getpid(), calls, i)
                  for i in range(len(ids))]
        answers = session.ask(execute=[
            call(target, lease, ident) for lease, ident in zip(ids, idents)])
        if [a.execute.body for a in answers] != idents:
            say(b"wrong")
        calls += 1


def main(arguments):
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # No zombies.
    for _ in sys.stdin:
        if os.fork() == 0:
            hold(*arguments)


if __name__ == "__main__":
    main(sys.argv[1:])

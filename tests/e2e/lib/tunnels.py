"""Tunnels: one from Python, and listeners in front of `hotline tunnel`."""

import os
import queue
import socket
import subprocess
import threading

import grpc
from hotline.v1 import broker_pb2 as pb

import wait


class Tunnel:
    """One call of Tunnel. Reading blocks, with the call's deadline."""

    def __init__(self, server, timeout=30, **opening):
        self._requests = queue.Queue()
        self._requests.put(pb.TunnelRequest(open=pb.TunnelOpen(**opening)))
        self.call = server.broker.Tunnel(iter(self._requests.get, None),
                                         timeout=timeout)
        self.ended = False  # The upstream has, and it was read.
        self.receipt = None
        self.opened = None
        self._data = bytearray()
        try:
            self.opened = next(self.call).opened
        except BaseException:
            self._requests.put(None)
            raise

    def send(self, data):
        self._requests.put(pb.TunnelRequest(data=data))

    def end(self):
        """Nothing more will be sent."""
        self._requests.put(None)

    def _next(self):
        """Takes one message. False: it was the last; RpcError: it failed."""
        try:
            message = next(self.call)
        except StopIteration:
            return False
        finally:
            if self.call.done():
                self._requests.put(None)
        self._data += message.data
        self.ended = self.ended or message.HasField("end")
        if message.HasField("receipt"):
            self.receipt = message.receipt
        return True

    def read(self, size):
        """Up to `size` bytes; fewer only when the upstream has ended."""
        while len(self._data) < size and not self.ended and self._next():
            pass
        data = bytes(self._data[:size])
        del self._data[:size]
        return data

    def read_to_end(self):
        """All that the upstream sends before it ends."""
        while not self.ended and self._next():
            pass
        data = bytes(self._data)
        self._data.clear()
        return data

    def finish(self):
        """Waits for the end, and returns the receipt."""
        while self._next():
            pass
        return self.receipt

    def failure(self):
        """The RpcError it ends with."""
        try:
            self.finish()
        except grpc.RpcError as error:
            return error
        raise AssertionError("it did not fail")

    def cancel(self):
        self.call.cancel()
        self._requests.put(None)


class Listener:
    """Connects clients of 127.0.0.1:port through `hotline tunnel`."""

    def __init__(self, server, *words):
        self._words = ("client/hotline", "tunnel") + words
        self._environment = dict(os.environ, HOTLINE_ADDRESS=server.address)
        self._lock = threading.Lock()
        self._processes = []
        self._stopping = False
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._accept)
        self._thread.start()

    def _accept(self):
        while True:
            sock, _ = self._listener.accept()
            with sock, self._lock:
                if self._stopping:
                    return
                self._processes.append(wait.start(
                    self._words, stdin=sock, stdout=sock,
                    env=self._environment, stderr=subprocess.PIPE))

    def finish(self):
        """How they ended: (exit code, standard error) of each."""
        with self._lock:
            processes = list(self._processes)
        return [(process.wait(30), process.stderr.read().decode())
                for process in processes]

    def stop(self):
        with self._lock:
            self._stopping = True
        socket.create_connection(("127.0.0.1", self.port)).close()
        self._thread.join()
        self._listener.close()
        for process in self._processes:
            wait.end(process)
            process.stderr.close()

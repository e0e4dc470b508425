"""A Session stream from Python: one caller in another language."""

import queue

from hotline.v1 import broker_pb2 as pb

import hotlined


class Session:
    """Sends items, and gives out their results as they come."""

    def __init__(self, server, timeout=60):
        self._requests = queue.SimpleQueue()
        self._results = []
        self._next_id = 1
        self.call = server.broker.Session(iter(self._requests.get, None),
                                          timeout=timeout)

    def send(self, *items):
        """One message."""
        self._requests.put(pb.SessionRequest(items=items))

    def next(self):
        """The next result, whosever it is; RpcError when the stream ends."""
        while not self._results:
            self._results = list(next(self.call).results)
        return self._results.pop(0)

    def ask(self, **calls):
        """Sends items of one kind in one message; their results, in order.

        ask(acquire=[request, ...]): ids are chosen here.
        """
        (kind, requests), = calls.items()
        ids = range(self._next_id, self._next_id + len(requests))
        self._next_id += len(requests)
        self.send(*(pb.SessionItem(id=i, **{kind: request})
                    for i, request in zip(ids, requests)))
        found = {}
        while len(found) < len(ids):
            result = self.next()
            found[result.id] = result
        return [found[i] for i in ids]

    def close(self):
        """Half-closes; the results that were still to come."""
        self._requests.put(None)
        rest = self._results
        for message in self.call:
            rest += message.results
        return rest

    def cut(self):
        """Ends it as a cancelled call does."""
        self._requests.put(None)
        self.call.cancel()


def reason(result):
    """The ErrorInfo's reason of a result; "" where it has none."""
    if not result.HasField("error"):
        return ""
    return hotlined.details_of(result.error)["ErrorInfo"].reason

"""dnsmasq on loopback, and scripted servers for it to forward to."""

import os
import signal
import socket
import struct
import threading

import wait


class Dnsmasq:
    """Answers what its hosts file says; a name may have many addresses.

    Below .test everything else does not exist, but for what `forward` sends to
    another server: {"fail.test": port}.
    """

    def __init__(self, directory, forward=(), options=()):
        self._hosts = os.path.join(directory, "hosts")
        self._names = {}
        self._write()
        self.port = wait.free_port()
        self.address = "127.0.0.1:%d" % self.port
        # pylint: disable=consider-using-with
        self._log = open(os.path.join(directory, "dnsmasq.log"), "wb")
        self._process = wait.start(
            ["/usr/sbin/dnsmasq", "--keep-in-foreground", "--conf-file=",
             "--port=%d" % self.port, "--listen-address=127.0.0.1",
             "--bind-interfaces", "--no-resolv", "--no-hosts", "--pid-file=",
             "--user=", "--addn-hosts=" + self._hosts, "--local-ttl=1",
             "--cache-size=0", "--local=/test/", "--log-facility=-",
             "--edns-packet-max=1232"]
            + ["--server=/%s/127.0.0.1#%d" % item for item in
               dict(forward).items()]
            + list(options), stdout=self._log, stderr=self._log)
        # It listens on TCP as well.
        wait.until(lambda: wait.accepts(self.port), "dnsmasq listens", 20)

    def _write(self):
        with open(self._hosts + ".new", "w", encoding="utf-8") as out:
            for name, addresses in self._names.items():
                for address in addresses:
                    out.write("%s %s\n" % (address, name))
        os.replace(self._hosts + ".new", self._hosts)

    def set(self, **names):
        """Soon `name`.test will have these addresses."""
        for name, addresses in names.items():
            self._names[name + ".test"] = addresses
        self._write()
        self._process.send_signal(signal.SIGHUP)

    def stop(self):
        wait.end(self._process)
        self._log.close()


class Forwarder:
    """A server that answers A questions with `answer(name)`, after `delay`.

    An answer is an address, or None: SERVFAIL.
    """

    def __init__(self, answer, delay=0.0):
        self._answer = answer
        self._delay = delay
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self.questions = 0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self):
        while True:
            question, sender = self._socket.recvfrom(2048)
            if not question:
                return
            self.questions += 1
            self._stopping.wait(self._delay)
            self._socket.sendto(self._reply(question), sender)

    def _reply(self, question):
        at, labels = 12, []
        while question[at]:
            labels.append(question[at + 1:at + 1 + question[at]].decode())
            at += 1 + question[at]
        kind = struct.unpack("!H", question[at + 1:at + 3])[0]
        asked = question[12:at + 5]
        address = self._answer(".".join(labels))
        code = 0 if address else 2
        records = b""
        if address and kind == 1:
            records = (b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, 1, 4)
                       + socket.inet_aton(address))
        return (question[:2] + struct.pack("!HHHHH", 0x8180 | code, 1,
                                           1 if records else 0, 0, 0)
                + asked + records)

    def stop(self):
        self._stopping.set()
        # The empty datagram ends it.
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"", ("127.0.0.1", self.port))
        self._thread.join()
        self._socket.close()

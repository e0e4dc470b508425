"""Certificates for upstreams, good and bad, made with openssl."""

import os
import subprocess


def _openssl(*args):
    done = subprocess.run(("openssl",) + args, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, check=False)
    if done.returncode != 0:
        raise RuntimeError("openssl %s: %s" % (args, done.stdout.decode()))


class Certificate:
    """Paths of a PEM certificate and its key."""

    def __init__(self, cert, key):
        self.cert = cert
        self.key = key


class Authority:
    """A certificate authority of its own, in `directory`."""

    def __init__(self, directory, name="ca"):
        self.directory = directory
        self.cert = os.path.join(directory, name + ".pem")
        self._key = os.path.join(directory, name + ".key")
        _openssl("req", "-x509", "-newkey", "ec", "-pkeyopt",
                 "ec_paramgen_curve:P-256", "-nodes", "-days", "30",
                 "-subj", "/CN=Test " + name, "-keyout", self._key,
                 "-out", self.cert)

    def issue(self, name, san="DNS:localhost,IP:127.0.0.1,IP:::1", days=7):
        """A certificate for `san`; with negative `days` it has expired."""
        base = os.path.join(self.directory, name)
        _openssl("req", "-new", "-newkey", "ec", "-pkeyopt",
                 "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=" + name,
                 "-keyout", base + ".key", "-out", base + ".csr")
        with open(base + ".ext", "w", encoding="ascii") as extensions:
            extensions.write("subjectAltName=%s\n" % san)
        _openssl("x509", "-req", "-in", base + ".csr", "-CA", self.cert,
                 "-CAkey", self._key, "-CAcreateserial", "-days", str(days),
                 "-extfile", base + ".ext", "-out", base + ".pem")
        return Certificate(base + ".pem", base + ".key")


def self_signed(directory, name="self", san="DNS:localhost,IP:127.0.0.1"):
    """Signed by nobody but itself."""
    base = os.path.join(directory, name)
    _openssl("req", "-x509", "-newkey", "ec", "-pkeyopt",
             "ec_paramgen_curve:P-256", "-nodes", "-days", "7", "-subj",
             "/CN=localhost", "-addext", "subjectAltName=" + san, "-keyout",
             base + ".key", "-out", base + ".pem")
    return Certificate(base + ".pem", base + ".key")

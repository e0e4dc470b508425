"""The web servers that Debian has, each serving the same files over TLS.

All answer under /file/ (small, large, empty), those that can pass things on
also under /origin/, from a scripted origin: what no file can be.
"""

import os

import nginx
import peers
import wait

LARGE = bytes(range(256)) * 4096
FILES = {"small": b"hello, whoever you are\n", "large": LARGE, "empty": b""}
CHUNKED = b"".join(b"%d," % number for number in range(20000))
TRAILER = (b"x-sum", b"12 34")


def _whole(status, body=b"", headers=b""):
    length = b"" if status == 204 else b"Content-Length: %d\r\n" % len(body)
    return b"HTTP/1.1 %d Whatever\r\n%s%s\r\n%s" % (status, length, headers,
                                                    body)


def _chunks(trailers=b""):
    parts = [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n"]
    if trailers:
        parts.append(b"Trailer: x-sum\r\n")
    parts.append(b"\r\n")
    for start in range(0, len(CHUNKED), 9999):
        piece = CHUNKED[start:start + 9999]
        parts.append(b"%x\r\n%s\r\n" % (len(piece), piece))
    parts.append(b"0\r\n" + trailers + b"\r\n")
    return b"".join(parts)


def _answer(request):
    name = request.path.rsplit("/", 1)[-1]
    if name == "204":
        return _whole(204)
    if name == "chunked":
        return _chunks()
    if name == "trailers":
        return _chunks(b"%s: %s\r\n" % TRAILER)
    if name == "echo":
        return _whole(200, request.body)
    tag = b'ETag: "%s"\r\n' % name.encode()
    if request.headers.get("if-none-match", "-") in tag.decode():
        return b"HTTP/1.1 304 Not Modified\r\n%s\r\n" % tag
    answer = _whole(200, FILES[name], tag)
    if request.method == "HEAD":
        answer = answer[:answer.index(b"\r\n\r\n") + 4]
    return answer


def _origin(connection):
    while True:
        request = connection.read_request()
        if request is None or not connection.send(_answer(request)):
            return


class Server:
    """One of them, on a port of its own. Subclasses say how it is started."""

    protocols = ("http/1.1", "h2")
    passes_on = True  # What is under /origin/.
    trailers = None   # The path of an answer with some.

    def __init__(self, directory, certificate):
        self.directory = os.path.join(directory, type(self).__name__.lower())
        self.web = os.path.join(self.directory, "web")
        os.makedirs(os.path.join(self.web, "file"))
        for name, content in FILES.items():
            with open(os.path.join(self.web, "file", name), "wb") as out:
                out.write(content)
        self.certificate = certificate
        self._process = None
        self._origin = peers.Peer(_origin) if self.passes_on else None
        for _ in range(5):
            self.port = wait.free_port()
            if self.start():
                self.target = "https://localhost:%d" % self.port
                return
        self.stop()
        raise RuntimeError("%s does not start: %s"
                           % (type(self).__name__, self.log()))

    @property
    def origin(self):
        return "127.0.0.1:%d" % self._origin.port

    def write(self, name, text):
        path = os.path.join(self.directory, name)
        with open(path, "w", encoding="utf-8") as out:
            out.write(text)
        return path

    def run(self, *command):
        """Starts it; whether it listens. Another may have taken the port."""
        environment = dict(os.environ, HOME=self.directory,
                           XDG_DATA_HOME=self.directory,
                           XDG_CONFIG_HOME=self.directory)
        with open(os.path.join(self.directory, "log"), "ab") as log:
            self._process = wait.start(command, stdout=log, stderr=log,
                                       env=environment, cwd=self.directory)
        wait.until(lambda: self._process.poll() is not None
                   or wait.accepts(self.port), command[0] + " listens", 30)
        return self._process.poll() is None

    def log(self):
        with open(os.path.join(self.directory, "log"), encoding="utf-8",
                  errors="replace") as log:
            return log.read()[-4000:]

    def start(self):
        raise NotImplementedError

    def stop(self):
        if self._process is not None:
            wait.end(self._process)
        if self._origin is not None:
            self._origin.stop()


class Nginx(Server):
    trailers = "/trailers"

    def start(self):
        self._nginx = nginx.Nginx(
            self.directory, {"good": self.certificate},
            "location /file/ { root %s; }"
            "location /origin/ { proxy_pass http://%s;"
            " proxy_http_version 1.1; }"
            "location = /trailers { proxy_pass http://%s/origin/chunked;"
            " proxy_http_version 1.1; add_trailer %s \"%s\"; }"
            % (self.web, self.origin, self.origin, TRAILER[0].decode(),
               TRAILER[1].decode()), http2=True)
        self.port = self._nginx.ports["good"]
        return True

    def stop(self):
        self._nginx.stop()
        super().stop()


class Apache(Server):
    _MODULES = ("mpm_event", "authz_core", "alias", "socache_shmcb", "ssl",
                "http2", "proxy", "proxy_http")

    def start(self):
        lines = ["LoadModule %s_module /usr/lib/apache2/modules/mod_%s.so"
                 % (name, name) for name in self._MODULES]
        lines += ["ServerRoot " + self.directory,
                  "DefaultRuntimeDir " + self.directory,
                  "PidFile %s/pid" % self.directory,
                  "ErrorLog %s/log" % self.directory,
                  "ServerName localhost", "Listen 127.0.0.1:%d" % self.port,
                  "DocumentRoot " + self.web,
                  "<Directory %s>\nRequire all granted\n</Directory>"
                  % self.web,
                  "Protocols h2 http/1.1", "SSLEngine on",
                  "SSLCertificateFile " + self.certificate.cert,
                  "SSLCertificateKeyFile " + self.certificate.key,
                  "ProxyPass /origin/ http://%s/origin/" % self.origin]
        if os.geteuid() == 0:  # It does not serve as root.
            lines += ["User www-data", "Group www-data"]
        return self.run("apache2", "-DFOREGROUND", "-f",
                        self.write("conf", "\n".join(lines) + "\n"))


class H2o(Server):

    def start(self):
        return self.run("h2o", "-c", self.write("conf", """
listen: {{host: 127.0.0.1, port: {port},
         ssl: {{certificate-file: {cert}, key-file: {key}}}}}
hosts:
  "localhost:{port}":
    paths:
      "/file/": {{file.dir: {web}/file}}
      "/origin/": {{proxy.reverse.url: "http://{origin}/origin/"}}
""".format(port=self.port, cert=self.certificate.cert,
           key=self.certificate.key, web=self.web, origin=self.origin)))


class Caddy(Server):
    trailers = "/origin/trailers"

    def start(self):
        return self.run("caddy", "run", "--adapter", "caddyfile", "--config",
                        self.write("conf", """
{{
  admin off
  auto_https off
  servers {{
    protocols h1 h2
  }}
}}
https://localhost:{port} {{
  bind 127.0.0.1
  tls {cert} {key}
  reverse_proxy /origin/* {origin}
  root * {web}
  file_server
}}
""".format(port=self.port, cert=self.certificate.cert,
           key=self.certificate.key, web=self.web, origin=self.origin)))


class Haproxy(Server):
    """It has no files: all comes from the origin."""

    trailers = "/origin/trailers"

    def start(self):
        with open(self.certificate.cert, encoding="ascii") as cert, \
                open(self.certificate.key, encoding="ascii") as key:
            both = self.write("both.pem", cert.read() + key.read())
        return self.run("haproxy", "-db", "-f", self.write("conf", """
defaults
  mode http
  timeout connect 10s
  timeout client 60s
  timeout server 60s
frontend in
  bind 127.0.0.1:%d ssl crt %s alpn h2,http/1.1
  default_backend out
backend out
  server origin %s
""" % (self.port, both, self.origin)))


class Nghttpd(Server):
    """Over TLS it speaks HTTP/2 only; it ends each body with a trailer."""

    protocols = ("h2",)
    passes_on = False
    trailers = "/file/small"

    def start(self):
        return self.run("nghttpd", "-a", "127.0.0.1", "-d", self.web,
                        "--trailer", "%s: %s" % (TRAILER[0].decode(),
                                                 TRAILER[1].decode()),
                        str(self.port), self.certificate.key,
                        self.certificate.cert)

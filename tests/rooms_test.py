#!/usr/bin/env python3
"""The rules of the rooms, checked over the source tree: who may include whom,
what a room must not mention, and what every file owes its reader.

Bazel's visibility says which targets may be linked; this says which headers may
be seen. The tree is found through this file's own link, so the test always sees
the files as they are.
"""

import os
import re
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
# Not ours, or not text.
SKIPPED = {".git", "node_modules", "__pycache__"}
INCLUDE = re.compile(r'^\s*#\s*include\s*[<"]([^>"]+)[>"]', re.MULTILINE)
COMMENT_OR_STRING = re.compile(
    r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"', re.DOTALL)

PROTO = ("hotline/", "google/rpc/", "grpc/health/")
GRPC = ("grpc/", "grpcpp/")
POSIX = ("sys/", "netinet/", "arpa/", "netdb.h", "unistd.h", "poll.h",
         "pthread.h", "signal.h", "fcntl.h")
ROOMS = ("base/", "pool/", "upstream/", "server/", "client/", "proto/",
         "tests/", "bench/")


class Rule:
    """What files whose path matches `files` must not include or mention.

    own: the only files of the rooms they may include (prefixes), or None.
    never: prefixes of other includes that they may not have.
    tokens: regular expressions that must not be found in their code; comments
    and strings do not count.
    """

    def __init__(self, files, own=None, never=(), tokens=()):
        self.files = re.compile(files)
        self.own = own
        self.never = never
        self.tokens = tokens

    def check(self, path, text):
        if not self.files.search(path):
            return
        for include in INCLUDE.findall(text):
            ours = include.startswith(ROOMS) or include.startswith(PROTO)
            if ours and self.own is not None:
                if not include.startswith(self.own):
                    yield f"must not include {include}"
            if include.startswith(self.never):
                yield f"must not include {include}"
        code = COMMENT_OR_STRING.sub(" ", text)
        for token in self.tokens:
            if re.search(token, code):
                yield f"must not say {token}"


CLOCKS = (r"\bMonotonicNow\b", r"_clock::now\b", r"\bclock_gettime\b")
RULES = [
    Rule(r"^base/", own=("base/",),
         never=GRPC + ("boost/", "google/", "prometheus/", "openssl/",
                       "yaml-cpp/", "nghttp2/")),
    # Pure: no socket, no thread, no clock, no other library than Abseil.
    Rule(r"^pool/", own=("base/", "pool/"),
         never=GRPC + POSIX + ("boost/", "google/", "prometheus/", "openssl/",
                               "yaml-cpp/", "nghttp2/", "thread", "iostream",
                               "condition_variable", "future"),
         tokens=CLOCKS + (r"\bstd::j?thread\b", r"\bsleep_(for|until)\b",
                          r"\brandom_device\b", r"\bgetenv\b", r"\bsocket\(")),
    Rule(r"^upstream/",
         own=("base/", "upstream/", "pool/types.h", "pool/transport.h"),
         never=GRPC + ("google/", "prometheus/", "yaml-cpp/", "CLI/")),
    # BoringSSL is linked into a library of its own: nobody else may see it.
    # OpenSSL, which comes with gRPC, checks what gRPC will be given.
    Rule(r"^(?!upstream/tls/|server/key_pair\.cc$|tests/|bench/dial_bare)",
         never=("openssl/",)),
    Rule(r"^upstream/tls/",
         own=("base/", "upstream/tls/", "upstream/types.h"),
         never=("boost/",)),
    # Bytes in, bytes out: no codec knows of sockets, loops or clocks.
    Rule(r"^upstream/(codec|types|header_scanner|chunk_line|http[^/]*)\.(h|cc)$",
         never=("boost/asio", "sys/", "netinet/", "unistd.h", "thread", "mutex",
                "base/mutex.h", "upstream/loop.h", "upstream/connection.h"),
         tokens=CLOCKS),
    Rule(r"^(?!upstream/http1_parser\.h|server/admin_http|tests/|bench/)",
         never=("boost/beast",)),
    Rule(r"^(?!upstream/http2|tests/|bench/)", never=("nghttp2/",)),
    Rule(r"^(?!upstream/resolver|tests/)", never=("ares",)),
    Rule(r"^(?!server/config|tests/)", never=("yaml-cpp/",)),
    Rule(r"^(?!server/metrics|tests/)", never=("prometheus/",)),
    # Users of the network see loops, never its library, through headers.
    Rule(r"^upstream/(upstream|codec|types|http1|http2|egress)\.h$",
         never=("boost/", "nghttp2/", "ares", "sys/")),
    Rule(r"^server/",
         own=("base/", "server/", "pool/pool.h", "pool/types.h",
              "pool/snapshot.h", "pool/transport.h", "upstream/upstream.h",
              "upstream/types.h", "upstream/tls/") + PROTO),
    # Only the use cases and the wiring see upstream.
    Rule(r"^server/(?!main\.cc$|broker|upstream_options|start_check)",
         never=("upstream/",)),
    # No use case knows that gRPC exists.
    Rule(r"^server/(front_door|listener|identity|key_pair|policy|gatekeeper|"
         r"overload|broker|error|validate|url|http_head|retry_budget|stats_view|"
         r"execute_metrics|config|metrics|admin_http|status_page|session)",
         never=GRPC + ("hotline/v1/broker.grpc",)),
    Rule(r"^client/", own=("base/", "client/") + PROTO,
         never=("boost/", "prometheus/", "yaml-cpp/", "nghttp2/")),
    Rule(r"^(base|pool|upstream|server|client)/", never=("tests/", "bench/")),
    Rule(r"\.(h|cc)$", tokens=(r"\busing namespace\b", r"\bassert\(false\)",
                               r"#\s*pragma\s+once\b")),
]


def check_guard(path, text):
    if not path.endswith(".h"):
        return
    guard = "HOTLINE_" + re.sub(r"[/.]", "_", path).upper() + "_"
    for line in (f"#ifndef {guard}\n#define {guard}\n",
                 f"#endif  // {guard}\n"):
        if line not in text:
            yield f"wants the header guard {guard}"
            return


def check_columns(path, text):
    if not path.endswith((".h", ".cc")):
        return
    for number, line in enumerate(text.splitlines(), 1):
        # A raw string cannot be broken.
        if len(line) > 80 and 'R"' not in line:
            yield f"line {number} has {len(line)} columns"
        if line != line.rstrip() or "\t" in line:
            yield f"line {number} has stray white space"


# A test waits for a condition; only the helpers that poll one may sleep.
SLEEP = re.compile(r"\b(?:sleep_for|sleep_until|u?sleep|nanosleep)\s*\(")
MAY_SLEEP = ("tests/fakes/eventually.h", "tests/e2e/lib/wait.py")


def check_sleeps(path, text):
    if (not path.startswith("tests/") or path in MAY_SLEEP
            or not path.endswith((".h", ".cc", ".py"))):
        return
    match = SLEEP.search(COMMENT_OR_STRING.sub(" ", text))
    if match:
        yield f"sleeps: {match.group()}"


# Written apart, so that this file passes its own test.
REGISTRIES = ["registry." + "npmjs.org", "docker" + ".io", "py" + "pi.org",
              "gh" + "cr.io", "quay" + ".io", "gcr" + ".io",
              "registry." + "k8s.io", "crates" + ".io", "ruby" + "gems.org",
              "proxy." + "golang.org"]
# Where the tree happens to lie on some machine.
PLACES = re.compile(r"(?<![\w.$}])/(work|root|home/\w+|tmp/w)/")


# What is UTF-8 in a reply: what these two give, words and numbers of ours, and
# the facts of a connection, which are checked when they are learned.
OURS = re.compile(
    r"ToUtf8\(|Printable\(|EncodeLeaseId\(|InstanceName\(|facts->|limit\.data"
    r"|name\.data|out->message|page\.next_token|found->second"
    r"|absl::AsciiStrToUpper|std::string\(upstream|row\.(address|limit)")


def reply_text():
    """Matches where a string field of a reply, or of an error, is set."""
    with open(os.path.join(ROOT, "proto/hotline/v1/broker.proto"),
              encoding="utf-8") as file:
        fields = set(re.findall(r"^\s+(?:repeated )?string (\w+) = \d+;",
                                file.read(), re.MULTILINE))
    fields |= {"message", "reason", "field", "description"}
    return re.compile(r"\b(?:set|add)_(?:%s)\(\s*(\w[\w:]*(?:->|\.|\()?\w*)"
                      % "|".join(sorted(fields)))


REPLY_TEXT = reply_text()


def check_reply_text(path, text):
    if not path.startswith("server/") or path.startswith(
            ("server/config", "server/warm_set")):
        return
    # With other bytes than UTF-8 the receiver rejects the whole reply.
    for call in REPLY_TEXT.finditer(COMMENT_OR_STRING.sub(" ", text)):
        if not OURS.match(call.group(1)):
            yield f"wants ToUtf8: {call.group()}"


def check_places(path, text):
    if not path.startswith("docs/"):
        for name in REGISTRIES:
            if name in text:
                yield f"names the registry {name}"
    match = PLACES.search(text)
    if match:
        yield f"names a path of one machine: {match.group()}"


def check(path, text):
    """All that is wrong with a file. `path` is relative to the tree's root."""
    problems = []
    if path.endswith((".h", ".cc")):
        for rule in RULES:
            problems += rule.check(path, text)
    problems += check_guard(path, text)
    problems += check_columns(path, text)
    problems += check_reply_text(path, text)
    problems += check_places(path, text)
    problems += check_sleeps(path, text)
    return problems


def tree():
    """(path, text) of every text file of the tree."""
    for folder, folders, files in os.walk(ROOT):
        folders[:] = [name for name in folders if name not in SKIPPED
                      and not name.startswith("bazel-")]
        for name in files:
            full = os.path.join(folder, name)
            path = os.path.relpath(full, ROOT)
            # The fuzzers' corpora are no text.
            if (os.path.islink(full) or name in SKIPPED
                    or "/corpus/" in path):
                continue
            try:
                with open(full, encoding="utf-8") as file:
                    yield path, file.read()
            except UnicodeDecodeError:
                pass


class TreeTest(unittest.TestCase):
    def test_every_file_keeps_the_rules(self):
        seen = dict.fromkeys(ROOMS, 0)
        problems = []
        for path, text in tree():
            problems += [f"{path}: {problem}" for problem in check(path, text)]
            for room in ROOMS:
                seen[room] += path.startswith(room)
        # A walk that finds nothing proves nothing.
        empty = [room for room, files in seen.items() if files == 0]
        self.assertEqual(empty, [], "rooms without files")
        self.assertEqual(problems, [], "\n" + "\n".join(problems))


class CheckTest(unittest.TestCase):
    """Each rule catches what it is there for."""

    def assert_caught(self, path, text, part):
        problems = check(path, text)
        self.assertTrue(any(part in problem for problem in problems),
                        f"{path} {text!r}: {problems}")

    def test_forbidden_includes_are_caught(self):
        for path, include in [
                ("base/a.cc", "pool/types.h"),
                ("base/a.cc", "grpcpp/grpcpp.h"),
                ("pool/a.cc", "upstream/types.h"),
                ("pool/a.cc", "hotline/v1/broker.pb.h"),
                ("pool/a.cc", "sys/socket.h"),
                ("pool/a.cc", "grpcpp/server.h"),
                ("pool/a.cc", "openssl/ssl.h"),
                ("pool/a.cc", "prometheus/registry.h"),
                ("pool/a.cc", "thread"),
                ("upstream/a.cc", "hotline/v1/broker.pb.h"),
                ("upstream/a.cc", "pool/pool.h"),
                ("upstream/a.cc", "server/broker.h"),
                ("upstream/a.cc", "openssl/ssl.h"),
                ("server/main.cc", "openssl/ssl.h"),
                ("upstream/tls/a.cc", "boost/asio/ip/tcp.hpp"),
                ("upstream/codec.h", "boost/asio/buffer.hpp"),
                ("upstream/http1.cc", "upstream/loop.h"),
                ("upstream/http1.cc", "boost/beast/http.hpp"),
                ("upstream/http1.cc", "nghttp2/nghttp2.h"),
                ("upstream/dialer.cc", "ares.h"),
                ("server/broker.cc", "yaml-cpp/yaml.h"),
                ("server/broker.cc", "prometheus/registry.h"),
                ("server/broker.cc", "grpcpp/server.h"),
                ("server/broker.cc", "pool/shard.h"),
                ("server/broker.cc", "upstream/connection.h"),
                ("server/config.cc", "upstream/upstream.h"),
                ("client/a.cc", "pool/types.h"),
                ("client/a.cc", "upstream/types.h"),
                ("client/a.cc", "server/url.h"),
                ("server/a.cc", "tests/fakes/scripted_peer.h"),
        ]:
            self.assert_caught(path, f"#include <{include}>\n", include)
            self.assert_caught(path, f'# include "{include}"\n', include)

    def test_allowed_includes_are_not(self):
        for path, include in [
                ("pool/a.cc", "base/time.h"),
                ("pool/a.cc", "absl/container/flat_hash_map.h"),
                ("upstream/a.cc", "pool/types.h"),
                ("upstream/tls/a.cc", "openssl/ssl.h"),
                ("upstream/http2.cc", "nghttp2/nghttp2.h"),
                ("server/broker.cc", "upstream/upstream.h"),
                ("server/main.cc", "upstream/upstream.h"),
                ("server/validate.cc", "hotline/v1/broker.pb.h"),
                ("client/a.cc", "hotline/v1/broker.grpc.pb.h"),
                ("tests/a.cc", "pool/shard.h"),
        ]:
            self.assertEqual(check(path, f'#include "{include}"\n'), [])

    def test_forbidden_words_are_caught_in_code_alone(self):
        for word in ["MonotonicNow()", "std::thread t;", "std::this_thread::"
                     "sleep_for(x)", "std::chrono::steady_clock::now()"]:
            self.assert_caught("pool/a.cc", f"x = {word};\n", "must not say")
            for comment in [f"// {word}\n", f'x = "{word}";\n',
                            f"/* a\n{word} */\n"]:
                self.assertEqual(check("pool/a.cc", comment), [])

    def test_form_is_checked(self):
        guard = "#ifndef HOTLINE_POOL_A_H_\n#define HOTLINE_POOL_A_H_\n"
        end = "#endif  // HOTLINE_POOL_A_H_\n"
        self.assertEqual(check("pool/a.h", guard + end), [])
        self.assert_caught("pool/a.h", guard, "guard")
        self.assert_caught("pool/b.h", guard + end, "guard")
        self.assert_caught("pool/a.cc", "x" * 81 + "\n", "81 columns")
        self.assertEqual(check("pool/a.cc", "é" * 80 + "\n"), [])
        self.assert_caught("pool/a.cc", "x \n", "white space")

    def test_text_of_replies_that_may_be_no_utf8_is_caught(self):
        for call in ["out->set_client_id(holder.client_id)",
                     "row.set_last_dial_error(\n    row.last_dial_error)",
                     "receipt->add_failed_attempts(text)",
                     "status.set_message(error.message)"]:
            self.assert_caught("server/a.cc", call + ";\n", "ToUtf8")
        for call in ["out->set_trace(ToUtf8(holder.trace))",
                     "out->set_tls_cipher(facts->tls_cipher)",
                     'info.set_domain("hotline")', "out->set_place(wait.place)"]:
            self.assertEqual(check("server/a.cc", call + ";\n"), [])

    def test_sleeping_tests_are_caught(self):
        for path, call in [
                ("tests/pool/a_test.cc", "std::this_thread::sleep_for(x)"),
                ("tests/pool/a.h", "usleep(10)"),
                ("tests/e2e/a_test.py", "time.sleep(1)"),
                ("tests/e2e/lib/peers.py", "sleep(1)")]:
            self.assert_caught(path, call + ";\n", "sleeps")
        for path in ("base/log_writer.cc",) + MAY_SLEEP[1:]:
            self.assertEqual(check(path, "sleep(1);\n"), [])
        self.assertEqual(check("tests/a.cc", "// sleep(1)\n"), [])

    def test_places_are_caught(self):
        for name in REGISTRIES:
            self.assert_caught("deploy/a.yaml", f"image: {name}/x\n", name)
            self.assertEqual(check("docs/a.md", f"image: {name}/x\n"), [])
        self.assert_caught("docs/a.md", "cd /wor" + "k/main\n", "one machine")
        self.assertEqual(check("docs/a.md", "$HOME/wor" + "k/main\n"), [])


if __name__ == "__main__":
    unittest.main()

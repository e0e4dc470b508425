#!/usr/bin/env python3
"""The rules of the rooms, checked over the source tree: who may include whom,
what a room must not mention, and what every file owes its reader.

Bazel's visibility says which targets may be linked; this says which headers may
be seen. The tree is found through this file's own link, so the test always sees
the files as they are.
"""

import json
import os
import re
import subprocess
import tempfile
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
# Not ours, or not text.
SKIPPED = {".git", "node_modules", "__pycache__"}
INCLUDE = re.compile(r'^\s*#\s*include\s*[<"]([^>"]+)[>"]', re.MULTILINE)
COMMENT_OR_STRING = re.compile(
    r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"', re.DOTALL)

PROTO = ("hotline/", "google/rpc/", "grpc/health/")
GRPC = ("grpc/", "grpcpp/")
BOOST = ("boost/",)
OPENSSL = ("openssl/",)
PROTOBUF = ("google/protobuf/",)
POSIX = ("sys/", "netinet/", "arpa/", "netdb.h", "unistd.h", "poll.h",
         "pthread.h", "signal.h", "fcntl.h")
# Libraries that a folder must ask for by name. Any folder may use the standard
# library and Abseil.
LIBRARIES = (GRPC + BOOST + OPENSSL + PROTOBUF +
             ("nghttp2/", "ares", "prometheus/", "yaml-cpp/", "CLI/",
              "google/"))
ROOMS = ("base/", "net/", "pool/", "upstream/", "server/", "client/", "proto/",
         "tests/", "bench/")
CLOCKS = (r"\bMonotonicNow\b", r"_clock::now\b", r"\bclock_gettime\b")


class Folder:
    """What the files directly in a folder may see.

    rooms: folders ("base/": itself, not those below it) and headers of ours,
        besides the folder itself.
    libraries: prefixes out of LIBRARIES.
    never: prefixes of other includes that they may not have.
    tokens: regular expressions that must not be found in their code; comments
        and strings do not count.
    """

    def __init__(self, rooms=(), libraries=(), never=(), tokens=()):
        self.rooms = rooms
        self.libraries = libraries
        self.never = never
        self.tokens = tokens


# The words of a room, which those below it may use too.
UPSTREAM_WORDS = ("upstream/types.h", "upstream/options.h")
POOL_FACE = ("pool/pool.h", "pool/slot_lease.h", "pool/types.h",
             "pool/snapshot.h", "pool/transport.h")
OBSERVED = ("server/front/front.h", "server/front/certificates.h")

FOLDERS = {
    "base/": Folder(libraries=("boost/asio/ip/",)),
    "base/library_log/": Folder(("base/",), GRPC + PROTOBUF),
    "net/": Folder(("base/", "net/tls/tls.h"), BOOST),
    # BoringSSL is linked into a library of its own; nothing else may see it.
    "net/tls/": Folder(("base/",), OPENSSL),
    "net/http2/": Folder(("base/",), ("nghttp2/",),
                         never=POSIX + ("thread",), tokens=CLOCKS),
    # Pure: no socket, no thread, no clock, no library but Abseil.
    "pool/": Folder(
        ("base/",), (),
        never=POSIX + ("thread", "iostream", "condition_variable", "future"),
        tokens=CLOCKS + (r"\bstd::j?thread\b", r"\bsleep_(for|until)\b",
                         r"\brandom_device\b", r"\bgetenv\b",
                         r"\bsocket\(")),
    "upstream/address/": Folder(
        ("base/", "net/", "pool/types.h") + UPSTREAM_WORDS, BOOST + ("ares",)),
    # Bytes in, bytes out: no codec knows of sockets, loops or clocks.
    "upstream/codec/": Folder(
        ("base/", "net/http2/") + UPSTREAM_WORDS, ("boost/beast", "nghttp2/"),
        never=POSIX + ("thread", "mutex", "base/mutex.h"), tokens=CLOCKS),
    "upstream/connection/": Folder(
        ("base/", "net/", "net/tls/tls.h", "pool/types.h", "pool/transport.h",
         "upstream/address/", "upstream/codec/") + UPSTREAM_WORDS, BOOST),
    "upstream/dial/": Folder(
        ("base/", "net/", "net/tls/", "pool/types.h", "pool/transport.h",
         "upstream/address/", "upstream/connection/") + UPSTREAM_WORDS, BOOST),
    "upstream/": Folder(
        ("base/", "net/", "net/tls/", "pool/types.h", "pool/transport.h",
         "upstream/address/", "upstream/connection/", "upstream/dial/"), BOOST),
    # No use case knows of HTTP/2 towards callers, or of gRPC.
    "server/broker/": Folder(
        ("base/", "upstream/upstream.h") + UPSTREAM_WORDS + POOL_FACE + PROTO,
        PROTOBUF),
    "server/front/": Folder(("base/", "net/", "net/http2/", "net/tls/server.h",
                              "net/tls/tls.h", "server/broker/") + PROTO,
                            PROTOBUF),
    # The control plane: gRPC's library behind the front's accept loop.
    "server/admin/": Folder(
        ("base/", "upstream/upstream.h", "server/broker/", "server/config/",
         "server/front/front_door.h", "server/front/options.h")
        + UPSTREAM_WORDS + POOL_FACE + PROTO, GRPC),
    "server/config/": Folder(
        ("base/", "pool/types.h", "net/tls/tls_profile.h",
         "upstream/options.h", "server/admin/options.h",
         "server/broker/options.h",
         "server/front/options.h", "server/observe/options.h",
         "server/broker/proto_time.h") + PROTO, PROTOBUF + ("yaml-cpp/",)),
    "server/observe/": Folder(
        ("base/", "pool/snapshot.h", "server/broker/") + OBSERVED,
        ("boost/asio", "boost/beast")),
    "server/daemon/": Folder(
        ("base/", "net/tls/", "upstream/upstream.h", "server/admin/",
         "server/broker/", "server/front/", "server/config/",
         "server/observe/") + UPSTREAM_WORDS
        # Of libraries, their versions.
        + POOL_FACE + PROTO,
        PROTOBUF + ("ares.h", "boost/version.hpp", "grpcpp/version_info.h",
                    "nghttp2/nghttp2.h")),
    "server/": Folder(
        ("base/", "base/library_log/", "upstream/upstream.h", "server/broker/",
         "server/front/", "server/config/", "server/observe/",
         "server/daemon/") + UPSTREAM_WORDS + POOL_FACE + PROTO,
        GRPC + ("CLI/",)),
    "client/": Folder(("base/",) + PROTO, GRPC + PROTOBUF + ("google/",)),
    "client/cli/": Folder(("base/", "base/library_log/", "client/") + PROTO,
                          GRPC + PROTOBUF + ("google/", "CLI/")),
}
# What is meant to be used from elsewhere does not show which library is behind
# it.
OPAQUE = re.compile(r"^(upstream/(upstream|types|options)|"
                    r"upstream/codec/(codec|http1|http2)|"
                    r"net/tls/(tls\w*|server)|net/http2/(server|request)_\w+|"
                    r"upstream/address/egress)\.h$")
EVERYWHERE = (r"\busing namespace\b", r"\bassert\(false\)",
              r"#\s*pragma\s+once\b")


def folder_of(path):
    return os.path.dirname(path) + "/"


def sees(folder, include):
    """Whether a folder's rule lets it include a header of ours."""
    allowed = FOLDERS[folder].rooms + (folder,)
    return (include in allowed or folder_of(include) in allowed
            or include.startswith(tuple(room for room in allowed
                                        if room in PROTO)))


def check_rooms(path, text):
    """Who includes whom, and what a folder must not mention."""
    if not path.endswith((".h", ".cc")):
        return
    code = COMMENT_OR_STRING.sub(" ", text)
    for token in EVERYWHERE:
        if re.search(token, code):
            yield f"must not say {token}"
    if path.startswith(("tests/", "bench/", "deploy/")):
        return
    if folder_of(path) not in FOLDERS:
        yield "is in a folder without a rule"
        return
    folder = FOLDERS[folder_of(path)]
    for include in INCLUDE.findall(text):
        if include.startswith(ROOMS + PROTO):
            if not sees(folder_of(path), include):
                yield f"must not include {include}"
        elif (include.startswith(LIBRARIES)
              and not include.startswith(folder.libraries or "-")):
            yield f"must not include {include}"
        if include.startswith(folder.never or "-") or (
                OPAQUE.match(path) and include.startswith(LIBRARIES)):
            yield f"must not include {include}"
    for token in folder.tokens:
        if re.search(token, code):
            yield f"must not say {token}"


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


# clang does not check the locks of the standard library. net/tls is linked
# apart, without Abseil and its annotations.
UNCHECKED = re.compile(r"\bstd::(?:shared_|timed_|recursive_)*mutex\b"
                       r"|\bstd::(?:lock_guard|unique_lock|scoped_lock)\b")


def check_locks(path, text):
    if (not path.startswith(ROOMS) or not path.endswith((".h", ".cc"))
            or path.startswith(("tests/", "bench/", "net/tls/"))
            or path == "base/mutex.h"):
        return
    match = UNCHECKED.search(COMMENT_OR_STRING.sub(" ", text))
    if match:
        yield f"wants base/mutex.h instead of {match.group()}"


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
            ("server/config/", "server/daemon/")):
        return
    # With other bytes than UTF-8 the receiver rejects the whole reply.
    for call in REPLY_TEXT.finditer(COMMENT_OR_STRING.sub(" ", text)):
        if not OURS.match(call.group(1)):
            yield f"wants ToUtf8: {call.group()}"


# Where reasons are named as text: input errors, dial errors, comparisons.
REASONED = ("base/url.cc", "upstream/", "server/broker/", "server/front/")
# Other words in that form: verdicts.
NO_REASONS = {"NOT_SENT", "REFUSED_BY_PEER", "SENT_UNKNOWN",
              "RESPONSE_STARTED"}


def reasons():
    """The names in the table of reasons."""
    with open(os.path.join(ROOT, "server/broker/reasons.h"),
              encoding="utf-8") as file:
        return set(re.findall(r'^    \{"(\w+)", StatusCode', file.read(),
                              re.MULTILINE))


REASONS = reasons()


def check_reasons(path, text):
    if not path.startswith(REASONED) or not path.endswith((".h", ".cc")):
        return
    if path == "server/broker/reasons.h":  # Its example has a wrong one.
        return
    for name in re.findall(r'"([A-Z]+(?:_[A-Z]+)+)"', text):
        if name not in REASONS | NO_REASONS:
            yield f"names a reason that is not in the table: {name}"


def check_places(path, text):
    if not path.startswith("docs/"):
        for name in REGISTRIES:
            if name in text:
                yield f"names the registry {name}"
    match = PLACES.search(text)
    if match:
        yield f"names a path of one machine: {match.group()}"


# Lines of a function: past these there is a second idea to name or, in a test, a
# table that should be data next to it.
LONGEST = 50
LONGEST_TEST = 100


def functions(paths, root):
    """(path, line, lines) of every function defined in C++ files."""
    tags = subprocess.run(
        ["ctags", "--quiet=yes", "--options=NONE", "--languages=C++",
         "--langmap=C++:.cc.h", "--kinds-C++=f", "--fields=+ne",
         "--output-format=json", "-f", "-", "-L", "-"],
        input="\n".join(paths), cwd=root, check=True, stdout=subprocess.PIPE,
        text=True).stdout
    for tag in map(json.loads, tags.splitlines()):
        if "end" in tag:
            yield tag["path"], tag["line"], tag["end"] - tag["line"] + 1


def check_lengths(paths, root=ROOT):
    for path, line, lines in functions(paths, root):
        longest = LONGEST_TEST if path.startswith("tests/") else LONGEST
        if lines > longest:
            yield f"{path}: the function in line {line} has {lines} lines"


def check(path, text):
    """All that is wrong with a file. `path` is relative to the tree's root."""
    problems = []
    problems += check_rooms(path, text)
    problems += check_guard(path, text)
    problems += check_columns(path, text)
    problems += check_reply_text(path, text)
    problems += check_reasons(path, text)
    problems += check_places(path, text)
    problems += check_locks(path, text)
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

    def test_no_function_is_too_long(self):
        paths = [path for path, _ in tree() if path.endswith((".h", ".cc"))]
        self.assertGreater(len(list(functions(paths, ROOT))), 4000)
        problems = list(check_lengths(paths))
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
                ("net/a.cc", "upstream/types.h"),
                ("net/a.cc", "pool/types.h"),
                ("net/a.cc", "openssl/ssl.h"),
                ("net/tls/a.cc", "boost/asio/ip/tcp.hpp"),
                ("net/tls/tls.h", "openssl/ssl.h"),
                ("net/tls/server.h", "openssl/ssl.h"),
                ("net/http2/a.cc", "sys/socket.h"),
                ("pool/a.cc", "upstream/types.h"),
                ("pool/a.cc", "hotline/v1/broker.pb.h"),
                ("pool/a.cc", "sys/socket.h"),
                ("pool/a.cc", "grpcpp/server.h"),
                ("pool/a.cc", "openssl/ssl.h"),
                ("pool/a.cc", "prometheus/registry.h"),
                ("pool/a.cc", "thread"),
                ("upstream/a.cc", "hotline/v1/broker.pb.h"),
                ("upstream/a.cc", "pool/pool.h"),
                ("upstream/a.cc", "server/broker/broker.h"),
                ("upstream/a.cc", "openssl/ssl.h"),
                ("upstream/upstream.h", "boost/asio/ip/tcp.hpp"),
                ("upstream/address/a.cc", "upstream/upstream.h"),
                ("upstream/codec/codec.h", "boost/beast/http.hpp"),
                ("upstream/codec/a.cc", "boost/asio/buffer.hpp"),
                ("upstream/codec/a.cc", "net/loop.h"),
                ("upstream/codec/a.cc", "base/mutex.h"),
                ("upstream/connection/a.cc", "upstream/dial/dial.h"),
                ("upstream/connection/a.cc", "nghttp2/nghttp2.h"),
                ("upstream/connection/a.cc", "ares.h"),
                ("upstream/dial/a.cc", "upstream/upstream.h"),
                ("server/main.cc", "openssl/ssl.h"),
                ("server/main.cc", "upstream/connection/connection.h"),
                ("server/broker/a.cc", "yaml-cpp/yaml.h"),
                ("server/broker/a.cc", "prometheus/registry.h"),
                ("server/broker/a.cc", "grpcpp/server.h"),
                ("server/broker/a.cc", "server/front/status.h"),
                ("server/broker/a.cc", "server/config/config.h"),
                ("server/broker/a.cc", "pool/shard.h"),
                ("server/broker/a.cc", "upstream/connection/connection.h"),
                ("server/config/a.cc", "upstream/upstream.h"),
                ("server/config/a.cc", "server/broker/broker.h"),
                ("server/front/a.cc", "server/config/config.h"),
                ("server/front/a.cc", "server/admin/admin.h"),
                ("server/admin/a.cc", "server/daemon/daemon.h"),
                ("server/admin/a.cc", "pool/shard.h"),
                ("server/config/a.cc", "server/admin/admin.h"),
                ("server/front/a.cc", "upstream/upstream.h"),
                ("server/observe/a.cc", "server/daemon/warm_set.h"),
                ("server/daemon/a.cc", "pool/shard.h"),
                ("client/a.cc", "pool/types.h"),
                ("client/a.cc", "upstream/types.h"),
                ("client/a.cc", "server/broker/error.h"),
                ("client/a.cc", "client/cli/table.h"),
                ("server/broker/a.cc", "tests/fakes/scripted_peer.h"),
        ]:
            self.assert_caught(path, f"#include <{include}>\n", include)
            self.assert_caught(path, f'# include "{include}"\n', include)

    def test_folders_without_a_rule_are_caught(self):
        self.assert_caught("server/new/a.cc", "\n", "without a rule")

    def test_the_arrows_have_no_circle(self):
        # A header that a rule names is a place of its own.
        named = {name for folder in FOLDERS.values() for name in folder.rooms
                 if name.endswith(".h")}
        above = {place: set() for place in FOLDERS}
        for place, folder in FOLDERS.items():
            above[place] = {name for name in folder.rooms
                            if name in FOLDERS or name in named}
        order = []
        while above:
            lowest = [place for place, below in above.items()
                      if not any(name in above for name in below)]
            self.assertTrue(lowest, f"a circle among {sorted(above)}")
            order += lowest
            for place in lowest:
                del above[place]
        self.assertEqual(order[0], "base/")

    def test_allowed_includes_are_not(self):
        for path, include in [
                ("base/ip_address.cc", "boost/asio/ip/address.hpp"),
                ("pool/a.cc", "base/time.h"),
                ("pool/a.cc", "absl/container/flat_hash_map.h"),
                ("upstream/a.cc", "pool/types.h"),
                ("net/tls/a.cc", "openssl/ssl.h"),
                ("upstream/codec/http2.cc", "nghttp2/nghttp2.h"),
                ("server/broker/a.cc", "upstream/upstream.h"),
                ("server/broker/a.cc", "hotline/v1/broker.pb.h"),
                ("server/main.cc", "upstream/upstream.h"),
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
            self.assert_caught("server/broker/a.cc", call + ";\n", "ToUtf8")
        for call in ["out->set_trace(ToUtf8(holder.trace))",
                     "out->set_tls_cipher(facts->tls_cipher)",
                     'info.set_domain("hotline")', "out->set_place(wait.place)"]:
            self.assertEqual(check("server/broker/a.cc", call + ";\n"), [])

    def test_locks_that_clang_does_not_check_are_caught(self):
        for lock in ("std::mutex mu_", "std::lock_guard lock(mu_)",
                     "std::shared_mutex mu_"):
            self.assert_caught("client/a.cc", lock + ";\n", "base/mutex.h")
            self.assertEqual(check("tests/pool/a.cc", lock + ";\n"), [])

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

    def test_long_functions_are_caught(self):
        def body(lines):
            return "{\n" + "  Act();\n" * (lines - 2) + "}\n"
        files = {
            "pool/a.cc": "void A() " + body(50),
            "pool/b.cc": "int C::B(int b) const " + body(51),
            "pool/c.h": "class C {\n void F() " + body(51) + "};\n",
            "tests/d.cc": "TEST_F(D, Holds) " + body(100),
            "tests/e.cc": "TEST(E, Holds) " + body(101),
        }
        with tempfile.TemporaryDirectory() as root:
            for path, text in files.items():
                full = os.path.join(root, path)
                os.makedirs(os.path.dirname(full), exist_ok=True)
                with open(full, "w", encoding="utf-8") as file:
                    file.write(text)
            found = [problem.split(":")[0]
                     for problem in check_lengths(list(files), root)]
        self.assertEqual(found, ["pool/b.cc", "pool/c.h", "tests/e.cc"])

    def test_unknown_reasons_are_caught(self):
        self.assertIn("QUEUE_FULL", REASONS)
        for path in REASONED:
            path = path if path.endswith(".cc") else path + "a.cc"
            self.assert_caught(path, 'Fail("QUEUE_FUL");\n', "QUEUE_FUL")
            self.assertEqual(check(path, 'Fail("QUEUE_FULL");\n'), [])

    def test_places_are_caught(self):
        for name in REGISTRIES:
            self.assert_caught("deploy/a.yaml", f"image: {name}/x\n", name)
            self.assertEqual(check("docs/a.md", f"image: {name}/x\n"), [])
        self.assert_caught("docs/a.md", "cd /wor" + "k/main\n", "one machine")
        self.assertEqual(check("docs/a.md", "$HOME/wor" + "k/main\n"), [])


if __name__ == "__main__":
    unittest.main()

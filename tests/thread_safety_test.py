#!/usr/bin/env python3
"""scripts/thread_safety finds what it is there for: code that touches a guarded
member without its lock. Like rooms_test it sees the tree through its own link.
"""

import importlib.machinery
import importlib.util
import os
import tempfile
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))


def load():
    loader = importlib.machinery.SourceFileLoader(
        "thread_safety", os.path.join(ROOT, "scripts", "thread_safety"))
    module = importlib.util.module_from_spec(
        importlib.util.spec_from_loader(loader.name, loader))
    loader.exec_module(module)
    return module


script = load()

COUNTER = """
#include "base/mutex.h"

class Counter {
 public:
  void Add() { %s }
  int Wait() {
    hotline::MutexLock lock(&mu_);
    while (count_ == 0) lock.Wait(&changed_);
    return count_;
  }

 private:
  void AddLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) { ++count_; }

  hotline::Mutex mu_;
  std::condition_variable changed_;
  int count_ ABSL_GUARDED_BY(mu_) = 0;
};

void Use(Counter* counter) { counter->Add(); }
"""


class CheckTest(unittest.TestCase):

    def check(self, body):
        with tempfile.NamedTemporaryFile("w", suffix=".cc") as source:
            source.write(COUNTER % body)
            source.flush()
            return script.check(source.name,
                                ["-std=c++20", "-iquote", ROOT])

    def test_locked_access_passes(self):
        self.assertEqual(
            self.check("hotline::MutexLock lock(&mu_); ++count_;"), "")
        self.assertEqual(
            self.check("hotline::MutexLock lock(&mu_); AddLocked();"), "")

    def test_unlocked_access_fails(self):
        self.assertIn("requires holding mutex 'mu_'", self.check("++count_;"))
        self.assertIn("requires holding mutex 'mu_'",
                      self.check("AddLocked();"))
        self.assertIn("requires holding mutex 'mu_'", self.check(
            "{ hotline::MutexLock lock(&mu_); } ++count_;"))

    def test_a_source_that_does_not_compile_fails(self):
        self.assertIn("error", self.check("nonsense"))


class SourcesTest(unittest.TestCase):

    def test_sources_are_chosen_by_what_they_include(self):
        with tempfile.TemporaryDirectory() as root:
            for path, text in {
                    "a/direct.cc": '#include "base/mutex.h"\n',
                    "a/lock.h": '#include "base/mutex.h"\n',
                    "a/indirect.cc": '#include "a/b.h"\n',
                    "a/b.h": '#include "a/b.h"\n#include "a/lock.h"\n',
                    "a/none.cc": '#include "a/none.h"\n#include <mutex>\n',
                    "a/none.h": ""}.items():
                full = os.path.join(root, path)
                os.makedirs(os.path.dirname(full), exist_ok=True)
                with open(full, "w", encoding="utf-8") as file:
                    file.write(text)
            found = [name for name in ("direct", "indirect", "none")
                     if script.includes_mutex("a/%s.cc" % name, root)]
        self.assertEqual(found, ["direct", "indirect"])

    def test_flags_keep_what_decides_the_source(self):
        self.assertEqual(
            script.clang_flags(
                ["gcc", "-O2", "-std=c++20", "-DX=1", "-isystem",
                 "external/y/include", "-iquote", ".", "-iquote",
                 "bazel-out/k8/bin", "-c", "a.cc"],
                {"external": "/e", "bazel-out": "/o"}),
            ["-std=c++20", "-DX=1", "-isystem", "/e/y/include", "-iquote", ".",
             "-iquote", "/o/k8/bin", "-Wno-builtin-macro-redefined"])


if __name__ == "__main__":
    unittest.main()

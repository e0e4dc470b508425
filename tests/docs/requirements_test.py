#!/usr/bin/env python3
"""Every test that docs/requirements.md names exists, and no row is missing."""

import glob
import os
import re
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(
    os.path.realpath(__file__))))
DOCUMENT = "docs/requirements.md"
REGRESSIONS = "//tests/regress:regress_test"


def read(path):
    with open(os.path.join(ROOT, path), encoding="utf-8") as file:
        return file.read()


def rows(text):
    """The cells of each row of its tables."""
    for line in text.splitlines():
        if line.startswith("|") and not line.startswith("|-"):
            yield [cell.strip() for cell in line.strip("|").split("|")]


def cases(package):
    """Class.name of all tests in the sources of a package."""
    found = set()
    for path in glob.glob(os.path.join(ROOT, package, "*")):
        if path.endswith(".cc"):
            found |= {".".join(match) for match in re.findall(
                r"\bTEST(?:_F|_P)?\(\s*(\w+),\s*(\w+)\s*\)", read(path))}
        elif path.endswith(".py"):
            name = None
            for line in read(path).splitlines():
                if match := re.match(r"class (\w+)", line):
                    name = match.group(1)
                elif match := re.match(r"    def (test_\w+)", line):
                    found.add("%s.%s" % (name, match.group(1)))
    return found


class RequirementsTest(unittest.TestCase):

    def check(self, target, case):
        package, name = target.removeprefix("//").split(":")
        self.assertRegex(read(os.path.join(package, "BUILD.bazel")),
                         r'"%s"' % re.escape(name), "no such target")
        self.assertIn(case, cases(package), "no such test in " + target)

    def test_every_test_that_is_named_exists(self):
        requirements, mistakes = read(DOCUMENT).split("\n## ", 1)
        checked = 0
        for row in rows(requirements):
            if len(row) == 4 and row[3].startswith("`"):
                with self.subTest(row[0], test=row[3]):
                    self.check(row[2].strip("`"), row[3].strip("`"))
                checked += 1
        self.assertGreater(checked, 22)
        named = [row[1].strip("`") for row in rows(mistakes)
                 if row[1].startswith("`")]
        for case in named:
            with self.subTest(case):
                self.check(REGRESSIONS, case)
        # A file there that the document forgets is a story nobody finds.
        classes = {case.split(".")[0] for case in named}
        for path in glob.glob(os.path.join(ROOT, "tests/regress/*_test.cc")):
            mine = set(re.findall(r"\bTEST(?:_F)?\(\s*(\w+),", read(path)))
            self.assertTrue(mine & classes, path)

    def test_every_requirement_is_shown_or_said_to_come(self):
        seen = {}
        number = None
        for row in rows(read(DOCUMENT).split("\n## ", 1)[0]):
            if re.fullmatch(r"R\d+", row[0]):
                number = row[0]
                self.assertNotIn(number, seen)
                seen[number] = False
            if number and (row[3].startswith("`") or "to come" in row[1]):
                seen[number] = True
        self.assertEqual(list(seen), ["R%d" % i for i in range(1, 23)])
        self.assertEqual([n for n, shown in seen.items() if not shown], [])


if __name__ == "__main__":
    unittest.main()

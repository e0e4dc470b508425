"""The examples in documents that are run as they stand."""

import re


def example(name, document="README.md"):
    """The block that follows <!-- checked: NAME -->."""
    with open(document, encoding="utf-8") as file:
        found = re.findall(r"<!-- checked: %s -->\n```\w+\n(.*?)```" % name,
                           file.read(), re.DOTALL)
    if len(found) != 1:
        raise AssertionError("%d examples named %s" % (len(found), name))
    return found[0]

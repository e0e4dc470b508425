"""`hotline bench` against a real hotlined and a real nginx."""

import json
import unittest

import harness


class BenchTest(harness.EndToEnd):

    def test_what_it_counts_is_what_the_broker_saw(self):
        _, server, target = self.start_both(
            {"pool": {"max_connections_per_target": 20}})
        def bench(*words, code=0):
            out, _ = self.hotline(server, "bench", *words, "-c", "8", "-n",
                                  "300", "--output", "json", code=code)
            return json.loads(out)
        for over in "unary", "session":
            before = server.stats().totals.counters
            found = bench("acquire", target, "--over", over)
            self.assertEqual((found["ok"], found["errors"]), (300, {}))
            found = bench("execute", target + "/", "--over", over)
            self.assertEqual((found["ok"], found["errors"]), (300, {}))
            self.assertGreater(found["latency_us"]["p50"], 0)
            # That nothing came of it is a failure.
            found = bench("execute", target + "/404", "--over", over, code=1)
            self.assertEqual(found["errors"], {"HTTP_404": 300})
            after = server.stats().totals.counters
            self.assertEqual(after.acquires - before.acquires, 900)
            self.assertEqual(after.executes - before.executes, 600)
        server.check_nothing_held()
        self.assertEqual(server.stats().totals.counters.leases_reclaimed, 0)


if __name__ == "__main__":
    unittest.main()

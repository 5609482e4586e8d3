"""Runs `tuf-client uptane` against repositories made with python-tuf: what must work, and the attacks that metadata and images can carry.

usage: uptane_client.py CLIENT [name of a test]
"""

import sys
import unittest

import uptane_attacks
import uptane_works

if __name__ == "__main__":
    loader = unittest.defaultTestLoader
    loader.testNamePatterns = [f"*{name}*" for name in sys.argv[2:]] or None
    suite = unittest.TestSuite(loader.loadTestsFromModule(module) for module in (uptane_works, uptane_attacks))
    result = unittest.TextTestRunner(stream=sys.stdout, verbosity=1).run(suite)
    sys.exit(0 if result.wasSuccessful() and result.testsRun else 1)

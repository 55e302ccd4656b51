"""These tests take minutes and download Debian releases. deb-test.sh runs them."""

import os

collect_ignore = [] if "DECKWIRE_DEB_TEST" in os.environ else ["test_package.py"]

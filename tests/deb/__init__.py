"""The Debian package, on the releases that it is for: `make deb-test`."""

"""Fingerprints of hellos and SYN packets, JA3 to p0f: pure functions over observations."""

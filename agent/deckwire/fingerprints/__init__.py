"""Pure functions from observations to fingerprints; no clock, no network, no state."""

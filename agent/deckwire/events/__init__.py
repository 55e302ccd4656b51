"""Events: one module for each, their fields, and the suppression of repeats.

It knows observations and fingerprints. It knows no sample, no map and no output.
"""

"""Measurements in a lab of their own, each against baselines of the same run."""

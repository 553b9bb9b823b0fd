"""Measurements: what the method buys, on the toy world. Ratios and intervals, never assertions."""

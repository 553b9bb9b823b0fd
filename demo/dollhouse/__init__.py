"""Dollhouse: a procedural world of persons in scenes, small enough to measure the method on a CPU. A toy world."""

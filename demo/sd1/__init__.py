"""A Stable Diffusion 1.x model as a library: checkpoint, prompts, noise levels, solvers; no host."""

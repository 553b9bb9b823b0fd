"""Networks of a Stable Diffusion 1.x checkpoint, in its own key names, small enough for a CPU. Used by both the embedded host and Dollhouse."""

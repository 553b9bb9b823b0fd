"""The Forge family (Forge, reForge, Forge Classic): every line in the host's own batch."""

"""Adapters to the web UIs' samplers. `request` is the entry point; host-specific code is in a1111/ and forge/."""

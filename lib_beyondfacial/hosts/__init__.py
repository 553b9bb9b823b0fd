"""The web UIs' samplers: `request` is their one door; what one host does its own way lies in a1111/ and forge/."""

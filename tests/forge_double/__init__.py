"""A Forge-shaped host in small: the miniature host with the family's denoiser contract in place of A1111's.

What it does was told from the outside by the hosts' behaviour (docs/hosts/forge.md); none of their code is in it.
The same tests are held against live hosts, so that this double is not its own judge.
"""

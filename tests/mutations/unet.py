"""Faults in lib_beyondfacial/unet."""

from . import Mutation as M

INJECTION = "tests/unet/test_injection.py"
PROBE = "tests/unet/test_probe.py"
ROWS = "tests/unet/test_rows.py"
SITES = "tests/unet/test_sites.py"

MUTATIONS = [
    M("unet/injection.py", "else weight * addition", "else addition", INJECTION, "the identity weight has no effect"),
    M(
        "unet/injection.py",
        "compute_identity_energy(addition)",
        "compute_identity_energy(weight * addition)",
        INJECTION,
        "the energy map depends on the weight",
    ),
    M(
        "unet/injection.py",
        'hooks.callback(site.leaf("to_out.0").register_forward_pre_hook(adder(number, site)).remove)',
        'site.leaf("to_out.0").register_forward_pre_hook(adder(number, site))',
        INJECTION,
        "a hook stays on the host's model",
    ),
    M(
        "unet/injection.py",
        '("attn1", site.attn1), ("attn2", site.attn2)',
        '("attn1", site.attn2), ("attn2", site.attn1)',
        INJECTION,
        "the LoRA goes to the wrong attentions",
    ),
    M(
        "unet/injection.py",
        "not any(each.fired",
        "not all(each.fired",
        INJECTION,
        "several injections of which one has no site are refused",
    ),
    M("unet/probe.py", "query[rows], key[rows]", "query, key", PROBE, "the probe reads the uncond rows as well"),
    M(
        "unet/probe.py",
        "compute_margin(of_group, reference)",
        "compute_margin(reference, of_group)",
        PROBE,
        "the margin's sign: the mask is where the head is not",
    ),
    M(
        "unet/rows.py",
        "min(end, self.cond_rows) - start",
        "end - start",
        ROWS,
        "uncond rows of a second call count as cond rows",
    ),
    M("unet/rows.py", "abs(where.weights[i])", "where.weights[i]", ROWS, "a negative AND part turns the maps round"),
    M("unet/rows.py", "    x = x.clone()\n", "", ROWS, "a host's tensor that others may hold is changed in place"),
    M(
        "unet/injection.py",
        "            output[rows] = out\n",
        "            pass\n",
        INJECTION,
        "the LoRA is lost where a line's rows do not stand together",
    ),
    M(
        "unet/probe.py",
        "[len(self.reference), *map(len, self.contexts.values())]",
        "[*map(len, self.contexts.values()), len(self.reference)]",
        PROBE,
        "each group of words gets the attention of another one's",
    ),
    M(
        "unet/rows.py",
        "self.images + other.images, self.weights + other.weights",
        "self.images, self.weights",
        ROWS,
        "the rows of a second call are nobody's",
    ),
    M(
        "unet/sites.py",
        "[int(number) for number in",
        "[number for number in",
        SITES,
        "block 10 comes before block 2: an adapter's weights go to other sites",
    ),
]

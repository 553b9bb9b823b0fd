"""Faults in lib_beyondfacial/hosts."""

from . import Mutation as M

GUIDANCE = "tests/hosts/test_guidance.py"
AND = "tests/hosts/test_and_prompts.py"
BATCH = "tests/hosts/test_forge_batch.py"
MODIFIER = "tests/hosts/test_forge_modifier.py"
MODEL = "tests/hosts/test_a1111_model.py"
HIRES = "tests/hosts/test_hires_prompts.py"
COST = "tests/hosts/test_cost_line.py"
PATCHES = "tests/hosts/test_patches.py"
REQUEST = "tests/hosts/test_request.py"
UNITS, UNITS_FORGE = "tests/hosts/test_controlnet_a1111.py", "tests/hosts/test_controlnet_forge.py"

MUTATIONS = [
    M(
        "hosts/forge/modifier.py",
        'in entry["model_conds"] for entry in cond)',
        'in entry["model_conds"] for entry in uncond or [])',
        MODIFIER,
        "at CFG 1 an inpainting model is taken for an ordinary one",
    ),
    M("hosts/forge/callbacks.py", "sampling.may_act(", "sampling.acts(", COST, "a level is counted twice"),
    M(
        "hosts/model.py",
        'getattr(p, "hr_prompts", None)',
        "False",
        HIRES,
        "hires heads get the first prompt",
    ),
    M(
        "hosts/a1111/denoiser.py",
        "uncond = last_rows if step.ledger.rows_done > rows else None",
        "uncond = last_rows",
        GUIDANCE,
        "copies of the cond rows (NGMS) are taken for uncond rows",
    ),
    M(
        "hosts/a1111/denoiser.py",
        "cfg_scale * cfg_plus_plus_factor(step.params.denoiser)",
        "cfg_scale",
        GUIDANCE,
        "CFG++ samplers: the refined head is drawn at a twelfth",
    ),
    M(
        "hosts/a1111/and_prompts.py",
        "delta[image] / where.weights[heaviest]",
        "delta[image]",
        AND,
        "with AND weights delta is scaled",
    ),
    M(
        "hosts/a1111/and_prompts.py",
        "sum(w * (rows[i] - base)",
        "sum((rows[i] - base)",
        AND,
        "AND weights of the identity line are ignored",
    ),
    M("hosts/a1111/model.py", "delta / -sigma", "delta / sigma", MODEL, "DDIM: the identity is taken away, not added"),
    M(
        "hosts/patches.py",
        "module.__dict__.update(patches)",
        "pass",
        PATCHES,
        "a ControlNet's patches are lost after a crop",
    ),
    M(
        "hosts/request.py",
        "        run.release()\n        if run.error",
        "        if run.error",
        REQUEST,
        "a run keeps its hooks after the sampling",
    ),
    M(
        "hosts/forge/batch.py",
        "            out[self.rows_of(tags)] = 0\n",
        "",
        BATCH,
        "NaN of an identity row times strength 0 is NaN in the host's mean",
    ),
    M(
        "hosts/forge/batch.py",
        "strength / total if total else",
        "1 / len(parts) if total else",
        BATCH,
        "AND weights of the identity line are ignored",
    ),
    M(
        "hosts/forge/batch.py",
        "[i * b + j for i in at for j in range(b)]",
        "[i + j * b for i in at for j in range(b)]",
        BATCH,
        "in a batch the identity goes to other pictures' rows",
    ),
    M(
        "hosts/forge/modifier.py",
        'float(args.get("cond_scale", cond_scale)) * strength',
        'float(args.get("cond_scale", cond_scale))',
        MODIFIER,
        "AND weights are not part of the guidance",
    ),
    M(
        "hosts/forge/modifier.py",
        "cond_scale, cond, restore)\n    if takes",
        "cond_scale, cond, list)\n    if takes",
        MODIFIER,
        "guidance that asks the model again is shown our rows",
    ),
    M(
        "hosts/a1111/identity_units.py",
        'patches.set(model, "cache", self.found.caches.setdefault(rows, {}))',
        "pass",
        UNITS,
        "a unit's keys for another count of rows are mixed into the identity line's",
    ),
    M(
        "hosts/a1111/identity_units.py",
        "if each is not branch]",
        "]",
        UNITS,
        "a unit stays on the semantic line",
    ),
    M(
        "hosts/forge/identity_units.py",
        "if each is not module]",
        "]",
        UNITS_FORGE,
        "a unit stays on the semantic line",
    ),
]

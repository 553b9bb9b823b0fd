"""Faults in lib_beyondfacial/method."""

from . import Mutation as M

FUSION = "tests/method/test_decision_and_fusion.py"
DETAILS = "tests/method/test_head_details.py"
HEAD = "tests/method/test_head_refinement.py"
MAPS = "tests/method/test_attention_maps.py"
MASK = "tests/method/test_mask.py"

MUTATIONS = [
    M("method/fusion.py", "rho * masks[name]", "masks[name]", FUSION, "eq. 8 forgets rho"),
    M("method/fusion.py", "masks[name] > 0,", "masks[name] > -1,", FUSION, "NaN outside the mask reaches the picture"),
    M("method/decision.py", "s_semantic - tau", "s_semantic + tau", FUSION, "sign of tau in eq. 6"),
    M("method/decision.py", "mask < MASK_FLOOR", "mask < -1", MASK + " " + FUSION, "the mask has no floor of 1/255"),
    M(
        "method/decision.py",
        "kept * mask_before + (1 - kept) * mask",
        "kept * mask + (1 - kept) * mask_before",
        FUSION,
        "eq. 7 the wrong way round",
    ),
    M("method/mask.py", "if distance > SAME_LEVEL:", "if True:", MASK, "going up to a level moves eq. 7's state"),
    M("method/mask.py", "get(name, 1.0)", "get(name, 0.0)", MASK, "S_s is 0 and not 1 before any uncond row"),
    M(
        "method/attention_maps.py",
        "a.amin((-1, -2), keepdim=True), a.amax((-1, -2), keepdim=True)",
        "a.amin(), a.amax()",
        MASK + " " + MAPS,
        "a picture's map depends on the rest of its batch",
    ),
    M(
        "method/head_refinement.py",
        "torch.zeros_like(difference)) / guidance",
        "torch.zeros_like(difference))",
        HEAD,
        "the refined head is overshot by the CFG scale",
    ),
    M("method/head_refinement.py", "min(cfg_scale, MAX_CFG)", "cfg_scale", HEAD, "the refinement burns at a high CFG"),
    M(
        "method/head_refinement.py",
        " if sigma >= GUIDED_TO else 1.0",
        "",
        HEAD,
        "the crop's last steps are guided away from the person, for two rows more",
    ),
    M(
        "method/head_refinement.py",
        "min(CROP * head, float(shorter))",
        "CROP * head",
        HEAD,
        "a close-up's square is wider than the picture",
    ),
    M("method/head_refinement.py", ") - MARGIN, 0)", "), 0)", HEAD, "the head is encoded without what surrounds it"),
    M("method/head_details.py", "(difference - coarse)", "difference", DETAILS, "the head's old colours come back"),
    M(
        "method/head_details.py",
        "if size != self.size:",
        "if False:",
        DETAILS,
        "hires fix: a head of the first pass",
    ),
    M(
        "method/head_details.py",
        "<= ANOTHER *",
        "<= 9 *",
        DETAILS,
        "details over another head",
    ),
    M(
        "method/start_noise.py",
        "(1 - g * g) ** 0.5 * noise",
        "(1 - g) * noise",
        "tests/method/test_start_noise.py",
        "eq. 11 mixes too little of the noise",
    ),
    M(
        "method/schedule.py",
        "+ 1e-4) / len",
        "- 1e-4) / len",
        "tests/method/test_schedule.py",
        "the window loses its first level to rounding",
    ),
    M(
        "method/assignment.py",
        "+ ORDER_COST * turned",
        "",
        "tests/method/test_assignment.py",
        "the prompt's order counts for nothing",
    ),
]

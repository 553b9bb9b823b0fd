"""Faults in lib_beyondfacial/sampling."""

from . import Mutation as M

PASS = "tests/sampling/test_sampling_pass.py"
HEAD = "tests/sampling/test_head_refinement.py"
PROMPTS = "tests/sampling/test_prompts.py"
PERSONS = "tests/sampling/test_persons.py"

MUTATIONS = [
    M(
        "sampling/head_refinement.py",
        "found = [each for each in found if not any(is_same_place(",
        "found = [each for each in found if True or not any(is_same_place(",
        PERSONS,
        "a later search draws a second person over a finished head",
    ),
    M(
        "sampling/sampling_pass.py",
        "if 0 <= moved <",
        "if moved <",
        PASS,
        "a sampler that goes back up gets an old difference",
    ),
    M(
        "sampling/sampling_pass.py",
        "stride - STRIDE_SLACK",
        "stride + 1 - STRIDE_SLACK",
        PASS,
        "the stride is one level too long",
    ),
    M(
        "sampling/sampling_pass.py",
        "refuse_nan(each, step.sigma)",
        "pass",
        PASS,
        "NaN in an identity line is a plain picture without a message",
    ),
    M(
        "sampling/sampling_pass.py",
        "line.person_of(i).crop",
        "line.person_of(0).crop",
        PASS,
        "every picture of a batch starts with the first person's face",
    ),
    M(
        "sampling/sampling_pass.py",
        "(scale * (edited",
        "(1.0 * (edited",
        PASS,
        "the start's edit is not in the sampler's scale",
    ),
    M(
        "sampling/head_refinement.py",
        "        self.host.load_unet()\n        return heads",
        "        return heads",
        HEAD,
        "the UNet stays pushed out by the autoencoder",
    ),
    M("sampling/crops.py", "lost[:, None]", "-lost[:, None]", HEAD, "eq. 14's sign: the loss is doubled"),
    M("sampling/crops.py", "int(seeds[spot]) % 2**63", "0", HEAD, "all heads of a batch get the same noise"),
    M(
        "sampling/encoded_prompts.py",
        "[image.negative_prompt for",
        "[image.prompt for",
        HEAD,
        "the refinement's uncond is the prompt",
    ),
    M(
        "sampling/prompts.py",
        'AND_WEIGHT.sub("", part)',
        "part",
        PROMPTS,
        "an AND part's weight is drawn as text in the refinement",
    ),
    M(
        "sampling/report.py",
        "self.acted | changed",
        "changed",
        "tests/sampling/test_shortfalls.py",
        "a picture whose last level was empty is told that the identity never acted",
    ),
    M(
        "sampling/faces_in_picture.py",
        "* h / height, (x0",
        "* h / width, (x0",
        "tests/sampling/test_faces_in_picture.py",
        "attention is read at the wrong place in pictures that are not square",
    ),
    M(
        "sampling/faces_in_picture.py",
        "box_of(face)) >= SAME_HEAD]",
        "box_of(face)) >= SAME_PLACE]",
        "tests/sampling/test_faces_in_picture.py",
        "a whole person in the crop replaces the head",
    ),
    M(
        "sampling/head_refinement.py",
        "line.attached(self.sites, where, self.plan.parameters.refine_weight)",
        "line.attached(self.sites, where)",
        HEAD,
        "the weight of the refinement does nothing",
    ),
    M("sampling/prompts.py", "if side:", "if False:", PROMPTS, '"on the right" is not heard'),
]

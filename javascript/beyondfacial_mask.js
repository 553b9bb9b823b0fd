// Sends the mask of a picture, and the picture, to the host's tab "Inpaint upload", with prompt and size; offered beside
// our lines under the pictures that tell of a mask. The masks in the gallery are heat maps: grey pictures with red over
// them, so red less blue is the mask.
(function () {
    "use strict";

    const LINE = /^\s*BeyondFacial picture (\d+):(?:.*;)? mask [\d.]+% of the picture/;
    const HINT = "Puts this picture and its mask into img2img, Inpaint upload. "
        + "Switch BeyondFacial on there and add the photos again.";
    const NOTE = /beyondfacial\0mask (\d+) of (-?\d+)/; // a text of the mask's PNG: whose it is, and its place in the gallery
    const OPACITY = 0.65; // of the red, as in previews.py
    const WAIT_MS = 5000;

    function root() {
        return typeof gradioApp === "function" ? gradioApp() : document;
    }

    function offer(tab) {
        const places = root().querySelectorAll(`#html_log_${tab} .comments, #html_info_${tab} .comments`);
        if (!root().querySelector("#img_inpaint_mask")) {
            return;
        }
        for (const place of places) {
            for (const node of Array.from(place.childNodes)) {
                const found = node.nodeType === Node.TEXT_NODE && LINE.exec(node.data);
                if (found && !place.querySelector(`[data-beyondfacial-mask="${found[1]}"]`)) {
                    const button = document.createElement("button");
                    button.type = "button";
                    button.className = "beyondfacial-action";
                    button.textContent = "Send mask to inpaint";
                    button.title = HINT;
                    button.dataset.beyondfacialMask = found[1];
                    button.addEventListener("click", () => send(tab, button));
                    node.after(" ", button);
                }
            }
        }
    }

    async function send(tab, button) {
        const shown = root().querySelectorAll(`#${tab}_gallery .grid-wrap img, #${tab}_gallery .thumbnails img`);
        const sources = Array.from(new Set(Array.from(shown, (image) => image.src)));
        for (const source of sources) {
            const content = await (await fetch(source)).blob();
            const found = NOTE.exec(new TextDecoder("latin1").decode(await content.arrayBuffer()));
            const picture = found && found[1] === button.dataset.beyondfacialMask && sources[found[2]];
            if (picture) {
                showTab(root().querySelector("#img_inpaint_mask"));
                const base = await (await fetch(picture)).blob();
                await carry(tab, base);
                await put("#img_inpaint_base", base, "picture.png");
                await put("#img_inpaint_mask", await greyMask(content), "mask.png");
                root().querySelector("#img_inpaint_base").scrollIntoView({ block: "center" });
                return;
            }
        }
        button.replaceWith("(the mask is not in the gallery any more: generate again)");
    }

    // What img2img is to draw, and how large.
    async function carry(tab, base) {
        const { width, height } = await createImageBitmap(base);
        for (const name of ["prompt", "neg_prompt"]) {
            const from = root().querySelector(`#${tab}_${name} textarea, #${tab}_${name} input`);
            if (from) {
                fill(`#img2img_${name} textarea, #img2img_${name} input`, from.value);
            }
        }
        fill("#img2img_width input[type=number]", width);
        fill("#img2img_height input[type=number]", height);
    }

    function fill(selector, value) {
        const input = root().querySelector(selector);
        if (input) {
            input.value = value;
            input.dispatchEvent(new Event("input", { bubbles: true }));
        }
    }

    async function greyMask(content) {
        const bitmap = await createImageBitmap(content);
        const canvas = document.createElement("canvas");
        canvas.width = bitmap.width;
        canvas.height = bitmap.height;
        const context = canvas.getContext("2d");
        context.drawImage(bitmap, 0, 0);
        const pixels = context.getImageData(0, 0, canvas.width, canvas.height);
        for (let i = 0; i < pixels.data.length; i += 4) {
            pixels.data.fill((pixels.data[i] - pixels.data[i + 2]) / OPACITY, i, i + 3);
        }
        context.putImageData(pixels, 0, 0);
        return new Promise((done) => { canvas.toBlob(done, "image/png"); });
    }

    // Press the titles of all tabs that the element is in, from the outside.
    function showTab(element) {
        const inside = element.parentElement && element.parentElement.closest(".tabitem");
        if (!inside) {
            return;
        }
        showTab(inside);
        const siblings = Array.from(inside.parentElement.children).filter((each) => each.classList.contains("tabitem"));
        const title = inside.parentElement.querySelectorAll(":scope > .tab-nav > button")[siblings.indexOf(inside)];
        if (title) {
            title.click();
        }
    }

    // Drop a file where an image is chosen, in place of the one that is there.
    async function put(selector, content, name) {
        const box = root().querySelector(selector);
        const clear = box.querySelector('button[aria-label="Clear"], button[aria-label="Remove Image"]');
        if (clear) {
            clear.click();
        }
        const until = Date.now() + WAIT_MS;
        let input = box.querySelector("input[type=file]");
        while (!input && Date.now() < until) {
            await new Promise((done) => { setTimeout(done, 50); });
            input = box.querySelector("input[type=file]");
        }
        const dropped = new DataTransfer();
        dropped.items.add(new File([content], name, { type: content.type || "image/png" }));
        input.files = dropped.files;
        input.dispatchEvent(new Event("change", { bubbles: true }));
    }

    function refresh() {
        offer("txt2img");
        offer("img2img");
    }

    if (typeof onUiUpdate === "function") {
        onUiUpdate(refresh);
    } else {
        new MutationObserver(refresh).observe(document.documentElement, { childList: true, subtree: true });
    }
})();

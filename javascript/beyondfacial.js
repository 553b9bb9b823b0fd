// What the page does by itself: the person in the accordion's title, cards that act, the check after an upload, adapters
// that do not fit in grey, warnings that stand out. Works on the pages of gradio 3 and 4; touches nothing outside ours
// but our own sentences under the pictures.
(function () {
    "use strict";

    const TITLE = "BeyondFacial";
    const TABS = ["txt2img", "img2img"];
    const SECOND = "_person_2";
    const PLACES = [...TABS.map((tab) => tab + SECOND), ...TABS]; // where a person is chosen, the inner ones first
    const CHECK_AFTER_MS = 700; // several uploads in a row are checked once
    const MARK = "\u26a0";
    const ERROR = "BeyondFacialError: ";

    function root() {
        return typeof gradioApp === "function" ? gradioApp() : document;
    }

    function part(tab, name) {
        return root().querySelector(`#beyondfacial_${tab}${name ? "_" + name : ""}`);
    }

    function panel(place) {
        return root().querySelector(`#beyondfacial_${place}_photos [data-beyondfacial]`);
    }

    function tabOf(place) {
        return place.replace(SECOND, "");
    }

    function button(tab, name) {
        const found = part(tab, name);
        return found && (found.tagName === "BUTTON" ? found : found.querySelector("button"));
    }

    function personIn(place) {
        const shown = panel(place);
        return shown ? shown.dataset.beyondfacial : "";
    }

    // Write who is in use behind the words of a title.
    function name(label, person) {
        const textNode = label && Array.from(label.childNodes).find((node) => node.nodeType === Node.TEXT_NODE && node.data.trim());
        if (!textNode) {
            return;
        }
        const before = label.dataset.beyondfacial || "";
        const words = before && textNode.data.trim().endsWith(before) ? textNode.data.trim().slice(0, -before.length) : textNode.data;
        const text = person ? ` (${person})` : "";
        if (textNode.data.trim() !== words.trim() + text) {
            textNode.data = words.trim() + text;
        }
        label.dataset.beyondfacial = text;
    }

    // The accordion's own title says who is in use, so that a closed one tells it too; so do the persons' tabs.
    function relabel(tab) {
        const persons = [personIn(tab), personIn(tab + SECOND)];
        name(root().querySelector(`#beyondfacial_${tab} > .label-wrap > span:first-child`), persons.filter(Boolean).join(" + "));
        const tabs = root().querySelectorAll(`#beyondfacial_${tab}_persons > .tab-nav > button`);
        tabs.forEach((label, i) => name(label, persons[i]));
    }

    // Photos are checked by themselves, once the list has not changed for a moment. An answer about an older list is
    // listed by its key, and the check is asked for again.
    const waiting = {};
    const newest = {};

    function checkLater(tab) {
        const shown = panel(tab);
        if (!shown) {
            return;
        }
        const { key, check } = shown.dataset; // no key: no photos, or a saved identity
        if (check !== "checked") {
            newest[tab] = key;
        }
        const isStale = check === "checked" && tab in newest && newest[tab] !== key;
        if ((check !== "wanted" && !isStale) || waiting[tab] === key) {
            return;
        }
        waiting[tab] = key;
        setTimeout(() => {
            waiting[tab] = "";
            const now = panel(tab);
            if (now && now.dataset.key === key && now.dataset.check === check) {
                const press = button(tab, "check");
                waiting[tab] = key; // until the answer replaces the panel
                now.dataset.check = "asked";
                if (press) {
                    press.click();
                }
                waiting[tab] = "";
            }
        }, CHECK_AFTER_MS);
    }

    // The picture that the host's gallery shows large, else its first one, becomes a photo as if it were dropped.
    function pictureShown(place) {
        const gallery = root().querySelector(`#${tabOf(place)}_gallery`);
        return gallery && (gallery.querySelector(".preview img") || gallery.querySelector(".grid-wrap img, img"));
    }

    async function usePicture(tab) {
        const picture = pictureShown(tab);
        const zone = part(tab, "add_photos").querySelector("input[type=file]");
        if (!picture || !zone) {
            return;
        }
        const content = await (await fetch(picture.src)).blob();
        const name = picture.src.startsWith("data:") ? "picture.png" : picture.src.split(/[?#]/)[0].split("/").pop();
        const dropped = new DataTransfer();
        dropped.items.add(new File([content], name, { type: content.type || "image/png" }));
        zone.files = dropped.files;
        zone.dispatchEvent(new Event("change", { bubbles: true }));
    }

    function offerPicture(tab) {
        for (const offer of root().querySelectorAll(`#beyondfacial_${tab}_photos .beyondfacial-use`)) {
            offer.hidden = !pictureShown(tab);
        }
    }

    // Without a mouse: gradio 3's folds and zones are no buttons, and a card that is removed takes the focus with it, so
    // that the next one gets it, or the zone.
    const goesOn = {};

    function zone(place) {
        const input = part(place, "add_photos").querySelector("input[type=file]");
        return input && input.parentElement;
    }

    function makeButton(element, name) {
        if (!element || element.tagName === "BUTTON" || element.tabIndex >= 0) {
            return;
        }
        element.tabIndex = 0;
        element.setAttribute("role", "button");
        if (name) {
            element.setAttribute("aria-label", name);
        }
        element.addEventListener("keydown", (event) => {
            if (event.target === element && (event.key === "Enter" || event.key === " ")) {
                event.preventDefault();
                element.click();
            }
        });
    }

    function keepFocus(place) {
        const shown = panel(place);
        const left = shown ? shown.querySelectorAll(".beyondfacial-remove") : [];
        if (goesOn[place] === undefined || left.length >= goesOn[place]) {
            return;
        }
        delete goesOn[place];
        const next = left[0] || zone(place);
        if (next && document.activeElement === document.body) {
            next.focus();
        }
    }

    // A card's button: hand its line to Python through the box that nobody sees.
    let presses = 0;

    function act(event) {
        const pressed = event.target.closest("[data-beyondfacial-action]");
        const tab = pressed && PLACES.find((each) => pressed.closest(`#beyondfacial_${each}${TABS.includes(each) ? "" : "_all"}`));
        const box = tab && part(tab, "action").querySelector("textarea, input");
        if (!box) {
            return;
        }
        event.preventDefault();
        if (pressed.dataset.beyondfacialAction === "check") {
            button(tab, "check").click();
            return;
        }
        if (pressed.dataset.beyondfacialAction === "use") {
            usePicture(tab);
            return;
        }
        if (pressed.classList.contains("beyondfacial-remove")) {
            goesOn[tab] = pressed.closest("[data-beyondfacial]").querySelectorAll(".beyondfacial-remove").length;
        }
        presses += 1;
        box.value = `${pressed.dataset.beyondfacialAction} #${presses}`;
        box.dispatchEvent(new Event("input", { bubbles: true }));
    }

    // The page's lists are as old as the server: read them again when our accordion is first used.
    const isRead = new Set();

    function readLists(event) {
        for (const tab of TABS) {
            if (!isRead.has(tab) && event.target.closest(`#beyondfacial_${tab}`)) {
                const again = button(tab, "look_again");
                if (again) {
                    isRead.add(tab);
                    again.click();
                }
            }
        }
    }

    function greyUnfit(tab) {
        const listed = root().querySelector(`#beyondfacial_${tab}_described [data-beyondfacial-unfit]`);
        const items = root().querySelectorAll(`#beyondfacial_${tab}_adapter li, #beyondfacial_${tab}_adapter [role=option]`);
        if (!listed || !items.length) {
            return;
        }
        const unfit = JSON.parse(listed.dataset.beyondfacialUnfit);
        for (const item of items) {
            const reason = unfit[item.dataset.value || item.getAttribute("aria-label") || item.textContent.trim()];
            item.classList.toggle("beyondfacial-unfit", Boolean(reason));
            if (reason) {
                item.title = reason;
            }
        }
    }

    // Under the pictures hosts write plain text: our warnings get their colour there.
    function markWarnings(tab) {
        for (const place of root().querySelectorAll(`#html_log_${tab} .comments, #html_info_${tab} .comments`)) {
            for (const node of Array.from(place.childNodes)) {
                if (node.nodeType !== Node.TEXT_NODE || !node.data.includes(`${MARK} ${TITLE}`)) {
                    continue;
                }
                const span = document.createElement("span");
                span.className = "beyondfacial-warning";
                node.replaceWith(span);
                span.append(node);
            }
        }
    }

    // Hosts write an exception's class before its sentence, in the colour of text.
    function mendErrors(tab) {
        for (const place of root().querySelectorAll(`#html_log_${tab} .error, #html_info_${tab} .error`)) {
            if (place.textContent.startsWith(ERROR)) {
                place.textContent = `${MARK} ${place.textContent.slice(ERROR.length)}`;
                place.classList.add("beyondfacial-error");
            }
        }
    }

    // Hires fix is txt2img's alone, and has two passes only where it is on.
    function showHires(tab) {
        const choice = part(tab, "hires_pass");
        const hires = root().querySelector("#txt2img_hr-checkbox input, #txt2img_enable_hr input");
        if (choice) {
            choice.style.display = tab === "img2img" || (hires && !hires.checked) ? "none" : "";
        }
    }

    document.addEventListener("change", () => TABS.forEach(showHires));

    function refresh() {
        for (const place of PLACES) {
            offerPicture(place);
            checkLater(place);
            keepFocus(place);
            makeButton(panel(place) && zone(place), "Photos of one person");
        }
        for (const tab of TABS) {
            showHires(tab);
            relabel(tab);
            root().querySelectorAll(`#beyondfacial_${tab} .label-wrap`).forEach((each) => makeButton(each));
            greyUnfit(tab);
            markWarnings(tab);
            mendErrors(tab);
        }
    }

    document.addEventListener("click", (event) => { readLists(event); act(event); });
    if (typeof onUiUpdate === "function") {
        onUiUpdate(refresh);
    } else {
        new MutationObserver(refresh).observe(document.documentElement, { childList: true, subtree: true });
    }
})();

// Says in the accordion's own title who is in use (photos or a saved identity), so that a closed accordion tells it too.
// Works on the page of gradio 3 (div.label-wrap) and gradio 4 (button.label-wrap); touches nothing outside ours.
(function () {
    "use strict";

    const TITLE = "BeyondFacial";

    function root() {
        return typeof gradioApp === "function" ? gradioApp() : document;
    }

    function whoIsInUse(tab) {
        const told = root().querySelector(`#beyondfacial_${tab}_status [data-beyondfacial]`);
        return told ? told.dataset.beyondfacial : "";
    }

    function relabel(tab) {
        const label = root().querySelector(`#beyondfacial_${tab} > .label-wrap > span:first-child`);
        if (!label) {
            return;
        }
        const who = whoIsInUse(tab);
        const text = who ? `${TITLE} (${who})` : TITLE;
        if (label.dataset.beyondfacial !== text) {
            label.dataset.beyondfacial = text;
            const words = Array.from(label.childNodes).find((node) => node.nodeType === Node.TEXT_NODE && node.data.trim());
            if (words) {
                words.data = text;
            }
        }
    }

    function refresh() {
        relabel("txt2img");
        relabel("img2img");
    }

    // The page's own list of saved identities is as old as the server: read it again when our accordion is first used.
    const isRead = new Set();

    function readIdentities(event) {
        for (const tab of ["txt2img", "img2img"]) {
            const button = root().querySelector(`#beyondfacial_${tab}_refresh_identity`);
            if (button && !isRead.has(tab) && event.target.closest(`#beyondfacial_${tab}`)) {
                isRead.add(tab);
                button.click();
            }
        }
    }

    document.addEventListener("click", readIdentities);
    if (typeof onUiUpdate === "function") {
        onUiUpdate(refresh);
    } else {
        new MutationObserver(refresh).observe(document.documentElement, { childList: true, subtree: true });
    }
})();

// Shows in the accordion's title which person is in use (photos or a saved identity), also while it is closed.
// Works with gradio 3 (div.label-wrap) and gradio 4 (button.label-wrap); changes nothing outside our accordion.
(function () {
    "use strict";

    const TITLE = "BeyondFacial";

    function root() {
        return typeof gradioApp === "function" ? gradioApp() : document;
    }

    function personInUse(tab) {
        const status = root().querySelector(`#beyondfacial_${tab}_status [data-beyondfacial]`);
        return status ? status.dataset.beyondfacial : "";
    }

    function relabel(tab) {
        const label = root().querySelector(`#beyondfacial_${tab} > .label-wrap > span:first-child`);
        if (!label) {
            return;
        }
        const person = personInUse(tab);
        const text = person ? `${TITLE} (${person})` : TITLE;
        if (label.dataset.beyondfacial !== text) {
            label.dataset.beyondfacial = text;
            const textNode = Array.from(label.childNodes).find((node) => node.nodeType === Node.TEXT_NODE && node.data.trim());
            if (textNode) {
                textNode.data = text;
            }
        }
    }

    function refresh() {
        relabel("txt2img");
        relabel("img2img");
    }

    // gradio fills the list of saved identities when the server starts: refresh it at the first click into our accordion.
    const refreshed = new Set();

    function refreshIdentities(event) {
        for (const tab of ["txt2img", "img2img"]) {
            const button = root().querySelector(`#beyondfacial_${tab}_refresh_identity`);
            if (button && !refreshed.has(tab) && event.target.closest(`#beyondfacial_${tab}`)) {
                refreshed.add(tab);
                button.click();
            }
        }
    }

    document.addEventListener("click", refreshIdentities);
    if (typeof onUiUpdate === "function") {
        onUiUpdate(refresh);
    } else {
        new MutationObserver(refresh).observe(document.documentElement, { childList: true, subtree: true });
    }
})();

// Says in the accordion's own title how many photos are in use, so that a closed accordion tells it too.
// Works on the page of gradio 3 (div.label-wrap) and gradio 4 (button.label-wrap); touches nothing outside ours.
(function () {
    "use strict";

    const TITLE = "BeyondFacial";

    function root() {
        return typeof gradioApp === "function" ? gradioApp() : document;
    }

    function photoCount(tab) {
        const status = root().querySelector(`#beyondfacial_${tab}_status`);
        const found = status && /(\d+) photo/.exec(status.textContent);
        return found ? Number(found[1]) : 0;
    }

    function relabel(tab) {
        const label = root().querySelector(`#beyondfacial_${tab} > .label-wrap > span:first-child`);
        if (!label) {
            return;
        }
        const count = photoCount(tab);
        const text = count === 0 ? TITLE : `${TITLE} (${count} photo${count === 1 ? "" : "s"})`;
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

    if (typeof onUiUpdate === "function") {
        onUiUpdate(refresh);
    } else {
        new MutationObserver(refresh).observe(document.documentElement, { childList: true, subtree: true });
    }
})();

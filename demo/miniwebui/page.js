// What extensions' JavaScript finds in A1111's page, and the accordions that are inputs.
const loadedCallbacks = [], updateCallbacks = [], afterUpdateCallbacks = [];
function gradioApp() { return document; }
function onUiLoaded(callback) { loadedCallbacks.push(callback); }
function onUiUpdate(callback) { updateCallbacks.push(callback); }
function onAfterUiUpdate(callback) { afterUpdateCallbacks.push(callback); }
function updateInput(target) { target.dispatchEvent(new Event("input", { bubbles: true })); }

const isOpen = (id) => document.querySelector(`#${id} .label-wrap`).classList.contains("open");
function inputAccordionChecked(id, checked) {
  if (isOpen(id) !== checked) document.querySelector(`#${id} .label-wrap`).click();
}
onUiLoaded(() => document.querySelectorAll(".input-accordion").forEach((accordion) => {
  const follow = () => {
    const checkbox = document.querySelector(`#${accordion.id}-checkbox input`);
    if (checkbox.checked !== isOpen(accordion.id)) checkbox.click();
  };
  new MutationObserver(follow).observe(accordion.querySelector(".label-wrap"), { attributeFilter: ["class"] });
}));

document.addEventListener("DOMContentLoaded", () => {
  let loaded = false, timer = null;
  new MutationObserver((records) => {
    if (!document.querySelector("#txt2img_prompt")) return;
    if (!loaded) { loaded = true; loadedCallbacks.forEach((callback) => callback()); }
    updateCallbacks.forEach((callback) => callback(records));
    clearTimeout(timer);
    timer = setTimeout(() => afterUpdateCallbacks.forEach((callback) => callback()), 200);
  }).observe(document.body, { childList: true, subtree: true });
});

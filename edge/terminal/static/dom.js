// What the page's scripts share: find an element, write a text, draw keys for fingers; no words and no rules.
export const $ = (id) => document.getElementById(id);

export function text(id, value) {
  if ($(id).textContent !== value) $(id).textContent = value;
}

// The keys of these names in `box`, ⌫ among them, drawn anew only where they changed; `press(name)` hears of each.
export function keys(box, names, w, press) {
  box.setAttribute("aria-label", w.keys);
  if (box.childElementCount !== names.length || box.firstChild.textContent !== names[0]) {
    box.replaceChildren(...names.map((name) => {
      const key = document.createElement("button");
      key.type = "button";
      key.textContent = name;
      key.onclick = () => press(name);
      return key;
    }));
  }
  box.children[names.indexOf("⌫")].setAttribute("aria-label", w.erase);
}

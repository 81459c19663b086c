"use strict";
// Filters and sorts the cards. The form's state is kept in the address, after the #, so that what
// is seen can be linked to. Every card carries its facts; the texts are never read.
(() => {
  const form = document.getElementById("filters");
  const list = document.getElementById("cards");
  const shown = document.getElementById("shown");
  const cards = [...list.children].map((node) => ({ node, ...JSON.parse(node.dataset.facts) }));

  // What is unknown comes last, whichever way the rest is sorted.
  const by = (key, sign) => (a, b) => {
    if (a[key] === null || b[key] === null) {
      return (a[key] === null) - (b[key] === null) || a.place - b.place;
    }
    return sign * (a[key] - b[key]) || a.place - b.place;
  };
  const orders = {
    data: (a, b) => a.place - b.place,
    worst: by("score", 1),
    best: by("score", -1),
    change: by("size_of_change", -1),
    gain: by("change", -1),
    loss: by("change", 1),
  };

  function fits(card, wanted) {
    const failure = wanted.get("failure") || "";
    if (failure === "none" && card.failures.length) return false;
    if (failure === "any" && !card.failures.length) return false;
    if (failure.startsWith("=") && !card.failures.includes(failure.slice(1))) return false;
    const low = wanted.get("low") || "", high = wanted.get("high") || "";
    if ((low || high) && card.score === null) return false;
    if (low && card.score < Number(low)) return false;
    if (high && card.score > Number(high)) return false;
    if (wanted.has("changed") && !card.changed) return false;
    return card.strata.every(([name, value]) => {
      const asked = wanted.get(`stratum:${name}`) || "";
      return asked === "" || asked === `=${value}`;
    });
  }

  function wantedNow() {
    const wanted = new URLSearchParams();
    for (const [name, value] of new FormData(form)) if (value !== "") wanted.set(name, value);
    return wanted;
  }

  function show() {
    const wanted = wantedNow();
    for (const card of cards) card.node.hidden = !fits(card, wanted);
    const kept = cards.filter((card) => !card.node.hidden);
    list.append(...[...cards].sort(orders[wanted.get("sort")]).map((card) => card.node));
    shown.textContent = `${kept.length} of ${cards.length} samples`;
    return wanted;
  }

  function change() {
    history.replaceState(null, "", `#${show()}`);
  }

  function read() {
    if (location.hash !== "" && !location.hash.includes("=")) return;  // a link within the page
    const wanted = new URLSearchParams(location.hash.slice(1));
    form.reset();
    for (const field of form.elements) {
      if (!wanted.has(field.name)) continue;
      const usual = field.value;
      if (field.type === "checkbox") field.checked = true;
      else field.value = wanted.get(field.name);
      if (field.type === "select-one" && field.selectedIndex < 0) field.value = usual;
    }
    show();
  }

  form.addEventListener("input", change);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.querySelector("button").addEventListener("click", (event) => {
    event.preventDefault();
    form.reset();
    change();
  });
  window.addEventListener("hashchange", read);
  form.hidden = false;
  read();
  show();
})();

// Keeps a page up to date: when the hub says that something changed, the page asks for itself again and the parts marked
// data-live are exchanged. Without JavaScript the page is the same and is brought up to date by a reload.
(() => {
  "use strict";
  const note = document.getElementById("live");
  const parts = () => document.querySelectorAll("[data-live]");
  if (!parts().length || !window.EventSource) return;

  let busy = false;
  let again = false;

  // A person who is filling in a form, or reading an opened detail, is not disturbed.
  const occupied = (part) =>
    part.contains(document.activeElement) && document.activeElement.matches("input, select, textarea, button, summary")
    || [...part.querySelectorAll("input:not([type=hidden])")].some((field) => field.checked || (field.type !== "checkbox" && field.value));

  const refresh = async () => {
    if (busy) { again = true; return; }
    busy = true;
    try {
      const address = new URL(location.href);
      address.searchParams.delete("done");
      const answer = await fetch(address, { credentials: "same-origin", signal: AbortSignal.timeout(15000) });
      if (answer.redirected) { location.reload(); return; }
      if (!answer.ok) return;
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
      for (const part of parts()) {
        const next = fresh.querySelector(`[data-live="${part.dataset.live}"]`);
        if (!next || next.innerHTML === part.innerHTML || occupied(part)) continue;
        const open = [...part.querySelectorAll("details")].map((one) => one.open);
        const focused = part.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
        part.replaceChildren(...next.childNodes);
        part.querySelectorAll("details").forEach((one, place) => { one.open = Boolean(open[place]); });
        if (focused) [...part.querySelectorAll("a")].find((one) => one.getAttribute("href") === focused)?.focus();
        part.dataset.refreshed = String(Number(part.dataset.refreshed || 0) + 1);
      }
    } catch {
      say(false);
    } finally {
      busy = false;
      if (again) { again = false; setTimeout(refresh, 1000); }
    }
  };

  const say = (on) => {
    const text = on ? note.dataset.on : note.dataset.off;
    if (note.textContent !== text) note.textContent = text;
    note.classList.toggle("on", on);
  };

  if (location.pathname === "/console/find") return;
  const source = new EventSource("/console/events");
  source.addEventListener("open", () => { say(true); refresh(); });
  source.addEventListener("changed", refresh);
  source.addEventListener("error", () => say(false));
  window.addEventListener("pagehide", () => source.close());
})();

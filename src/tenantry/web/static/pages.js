// What changes while one looks: who is served now, by a stream of the server. Without it the page is as it was loaded.
"use strict";
(() => {
  const figures = document.querySelector("[data-live]");
  if (!figures || !("EventSource" in window)) return;
  let booked = null, askedAt = -Infinity, tookMs = 0, timer = null;
  const put = (element, value) => {
    const text = String(value);
    if (element.textContent === text) return;
    element.textContent = text;
    element.classList.remove("changed");
    void element.offsetWidth;
    element.classList.add("changed");
  };
  // The figures are asked for anew when something was booked: with the stream's next word, which comes once a second, so that a
  // request is seen within two. Where they take long (a large ledger, a slow line) they take a fifth of the time at most.
  const refresh = () => {
    const part = document.querySelector("[data-refresh]");
    if (!part || !window.htmx || timer) return;
    const wait = Math.max(0, askedAt + Math.max(900, 5 * tookMs) - performance.now());
    timer = setTimeout(() => {
      timer = null;
      if (part.contains(document.activeElement) && document.activeElement.tagName === "SUMMARY") return;
      if (part.querySelector("details[open]")) return;
      askedAt = performance.now();
      window.htmx.trigger(part, "refresh");
    }, wait);
  };
  document.addEventListener("htmx:afterRequest", (event) => {
    if (event.target.matches("[data-refresh]")) tookMs = performance.now() - askedAt;
  });
  const source = new EventSource("/live");
  source.addEventListener("message", (event) => {
    const told = JSON.parse(event.data);
    document.querySelectorAll('[data-live="sessions"]').forEach((one) => put(one, told.sessions));
    document.querySelectorAll('[data-live="waiting"]').forEach((one) => put(one, told.waiting));
    document.querySelectorAll("[data-live-tenant]").forEach((one) => {
      put(one, (told.tenants[one.dataset.liveTenant] || [0])[0]);
    });
    if (booked !== null && told.booked !== booked) refresh();
    booked = told.booked;
  });
  source.addEventListener("end", () => source.close());
  window.addEventListener("pagehide", () => source.close());
})();

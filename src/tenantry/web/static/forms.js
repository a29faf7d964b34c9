// A form that takes a moment says so, and is not sent twice.
"use strict";
document.addEventListener("submit", (event) => {
  const words = event.target.dataset.busy;
  if (!words) return;
  if (event.target.classList.contains("sent")) { event.preventDefault(); return; }
  event.target.classList.add("sent");
  const button = event.target.querySelector('[type="submit"]');
  if (button) { button.setAttribute("aria-busy", "true"); button.textContent = words; }
});
// Back from the next page, it can be sent again.
window.addEventListener("pageshow", () => document.querySelectorAll("form.sent").forEach((one) => one.classList.remove("sent")));

// Says the words of the bar that one points at, or touches, within the chart: the same that its table has.
"use strict";
(() => {
  const say = (chart, words) => {
    const place = chart.parentElement.querySelector(".readout");
    if (place && place.textContent !== words) place.textContent = words;
  };
  const told = (event) => {
    const mark = event.target.closest && event.target.closest("svg.chart .mark");
    if (mark) say(mark.closest("svg.chart"), mark.querySelector("title").textContent);
  };
  document.addEventListener("pointerover", told);
  document.addEventListener("pointerdown", told);
  document.addEventListener("pointerout", (event) => {
    const chart = event.target.closest && event.target.closest("svg.chart");
    if (chart && event.pointerType === "mouse" && !chart.contains(event.relatedTarget)) say(chart, "");
  });
})();

"use strict";
// What every page does by itself: values under the pointer and under the arrow keys, tables that a narrow page lays out as
// blocks, folded sections that open when one goes there, and the place in the navigation. The values stand in the marks' data-say, made by marks.py or by the explorer.

{
  const tip = document.getElementById("tip");

  const hide = () => { tip.hidden = true; document.querySelector(".mark.now")?.classList.remove("now"); };

  function tell(mark, aloud) {
    document.querySelector(".mark.now")?.classList.remove("now");
    mark.classList.add("now");
    tip.setAttribute("aria-live", aloud ? "polite" : "off");
    tip.textContent = mark.dataset.say;
    tip.hidden = false;
    const [box, own] = [mark.getBoundingClientRect(), tip.getBoundingClientRect()];
    const left = Math.min(Math.max(8, box.left + box.width / 2 - own.width / 2), document.documentElement.clientWidth - own.width - 8);
    const above = box.top - own.height - 8;
    tip.style.left = `${left}px`;
    tip.style.top = `${above > 0 ? above : box.bottom + 8}px`;
  }

  document.addEventListener("pointerover", (event) => {
    const mark = event.target.closest?.(".mark");
    if (mark) tell(mark, false); else if (!tip.hidden) hide();
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") hide();
    const svg = event.target.closest?.("svg");
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    const marks = svg && step ? [...svg.querySelectorAll(".mark")] : [];
    if (!marks.length) return;
    const at = marks.findIndex((mark) => mark.classList.contains("now"));
    tell(marks[at < 0 ? 0 : (at + step + marks.length) % marks.length], true);
    event.preventDefault();
  });
  document.addEventListener("focusin", (event) => {
    if (event.target.matches?.("svg[tabindex]")) event.target.scrollIntoView({ block: "nearest" });
  });
  document.addEventListener("focusout", hide);
  window.addEventListener("scroll", hide, { passive: true });

  // A block of a row has each column's name beside its value, and stays a table for whoever hears it.
  const roles = { THEAD: "rowgroup", TBODY: "rowgroup", TR: "row", TD: "cell" };
  for (const table of document.querySelectorAll("table")) {
    const names = [...table.tHead.rows[0].cells].map((cell) => cell.textContent);
    table.setAttribute("role", "table");
    for (const part of table.querySelectorAll("thead, tbody, tr, td, th")) {
      part.setAttribute("role", roles[part.tagName] ?? (part.scope === "col" ? "columnheader" : "rowheader"));
      if (part.cellIndex !== undefined) part.dataset.head = names[part.cellIndex];
    }
  }

  // A folded section opens for whoever follows a link to it.
  function unfold() {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    const folded = target?.querySelector("details.fold");
    if (folded) folded.open = true;
  }
  window.addEventListener("hashchange", unfold);
  unfold();

  // Where one is on the page.
  const links = new Map([...document.querySelectorAll("nav a")].map((link) => [link.hash.slice(1), link]));
  const seen = new IntersectionObserver((entries) => {
    for (const { isIntersecting, target } of entries) {
      if (isIntersecting) links.get(target.id)?.setAttribute("aria-current", "true");
      else links.get(target.id)?.removeAttribute("aria-current");
    }
  }, { rootMargin: "-60px 0px -60% 0px" });
  for (const id of links.keys()) if (document.getElementById(id)) seen.observe(document.getElementById(id));
}

// The body of a function of (page, document): what one frame of a page looks like, and how it answers pointer and keys.

const shownBox = (element) => { const box = element.getBoundingClientRect(); return box.width > 0 && box.height > 0 ? box : null; };
const style = (element) => page.getComputedStyle(element);
const said = (element) => element.textContent.trim().slice(0, 60);
const ours = (element) => !element.closest("nav, .unseen, .skip, #tip, thead");

const colour = (text) => { const [r, g, b, a = 1] = text.match(/[\d.]+/g).map(Number); return { r, g, b, a }; };
const channel = (value) => (value / 255 <= 0.03928 ? value / 255 / 12.92 : ((value / 255 + 0.055) / 1.055) ** 2.4);
const light = ({ r, g, b }) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
function ground(element) {
  for (let one = element; one; one = one.parentElement) {
    const own = colour(style(one).backgroundColor);
    if (own.a > 0) return own;
  }
  return { r: 255, g: 255, b: 255 };
}
function contrast(element) {
  const ink = colour(element.closest("svg") ? style(element).fill : style(element).color);
  const [high, low] = [light(ink), light(ground(element))].sort((a, b) => b - a);
  return (high + 0.05) / (low + 0.05);
}

const texts = [...document.querySelectorAll("body *")].filter((element) => !element.closest("script, style, option, select, noscript")
  && [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim()) && shownBox(element));
const pale = texts.filter((element) => contrast(element) < 4.5).map((element) => [said(element), contrast(element).toFixed(2)]);

const overlaps = [];
const small = [];
for (const svg of document.querySelectorAll("svg")) {
  if (!shownBox(svg)) continue;
  const scale = svg.getBoundingClientRect().width / svg.viewBox.baseVal.width;
  const words = [...svg.querySelectorAll("text")].map((text) => [text, text.getBoundingClientRect()]).filter(([text, box]) => box.width > 0 && text.textContent.trim());
  for (const [text] of words) {
    const px = parseFloat(style(text).fontSize) * scale;
    if (px < 10) small.push([said(text), px]);
  }
  words.forEach(([first, a], i) => words.slice(i + 1).forEach(([second, b]) => {
    const across = Math.min(a.right, b.right) - Math.max(a.left, b.left);
    const down = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
    if (across > 2 && down > 4) overlaps.push([said(first), said(second), across, down]);
  }));
}

const width = page.innerWidth;
const clipped = texts.filter(ours).filter((element) => {
  const box = shownBox(element);
  return box.right > width + 1 || box.left < -1 || (element.scrollWidth > element.clientWidth + 1 && style(element).overflow !== "visible" && element.clientWidth > 0);
}).map((element) => [element.tagName, said(element)]);

const wordsOf = (text) => text.split(/\s+/).filter(Boolean).length;
const chosenFrom = [...document.querySelectorAll("select")].reduce((sum, one) => sum + wordsOf(one.innerText), 0); // shown where it is opened
const unfolded = wordsOf(document.body.innerText) - chosenFrom;
const scrolling = [...document.querySelectorAll(".scroll")].filter((box) => box.scrollWidth > box.clientWidth + 1).map((box) => box.ariaLabel);
const folded = [...document.querySelectorAll("details.fold")];
const hidden = folded.filter((one) => !one.lastElementChild.checkVisibility({ contentVisibilityAuto: true })).length;
const order = [...document.querySelectorAll(".number, .sentences, .warnings, svg.what-if, section, figure")].map((element) => element.id || element.className || element.tagName);
const first = { pale, overlaps, small, clipped, unfolded, scrolling, hidden, folded: folded.length, order, width: document.documentElement.scrollWidth,
  navigation: style(document.querySelector("nav")).backgroundColor, title: document.title, screen: document.getElementById("verdict").innerText };

// Values under the pointer and under the keys.
for (const one of document.querySelectorAll("details")) one.open = true;
const tip = document.getElementById("tip");
const figures = [...document.querySelectorAll("svg")].filter((svg) => shownBox(svg));
const bare = figures.filter((svg) => !svg.querySelector(".mark")).map((svg) => svg.ariaLabel);
const told = figures.filter((svg) => svg.querySelector(".mark")).map((svg) => {
  svg.querySelector(".mark").dispatchEvent(new page.PointerEvent("pointerover", { bubbles: true }));
  const hovered = !tip.hidden && tip.textContent;
  svg.focus();
  svg.dispatchEvent(new page.KeyboardEvent("keydown", { key: "ArrowRight", bubbles: true }));
  return [hovered, !tip.hidden && tip.textContent, tip.getAttribute("aria-live"), document.activeElement === svg, svg.ariaLabel];
});
document.dispatchEvent(new page.KeyboardEvent("keydown", { key: "Escape", bubbles: true }));
const looked = { ...first, bare, told, escaped: tip.hidden };

// The explorer, where the page has one.
if (!document.getElementById("what-if-page")) return looked;
const control = (name) => document.getElementById("what-if-" + name);
const offered = () => [...control("ranks").options].filter((option) => !option.disabled).map((option) => Number(option.value));
const move = (name, value) => { control(name).value = value; control(name).dispatchEvent(new page.Event("input")); };
const state = () => [control("number").textContent, control("span").textContent];
const labels = () => [...document.querySelectorAll("#what-if-timeline text:has(tspan)")].map((one) => one.textContent);
const explored = { ranks: control("ranks").value, offered: offered(), start: state(), summary: control("summary").textContent, labels: labels(),
  marks: [...document.querySelectorAll("#what-if-timeline .mark")].map((mark) => mark.dataset.say) };
const strategies = [...control("strategy").options].map((option) => option.value);
explored.sharded = strategies.filter((one) => one !== "ddp").map((one) => {
  move("strategy", one);
  return [one, control("ddp-only").checkVisibility(), control("batch").disabled, labels().length];
});
control("reset").click();
explored.ddp = control("ddp-only").checkVisibility();
move("bandwidth", 1);
explored.moved = state();
explored.address = page.location.hash;
explored.rows = [...document.querySelectorAll("#what-if-timeline tspan")].map((one) => one.textContent);
move("wire", 3);
explored.all = offered();
control("reset").click();
explored.back = state();
page.location.hash = "#what-if&bandwidth=1&ranks=2";
page.dispatchEvent(new page.HashChangeEvent("hashchange"));
explored.linked = [control("ranks").value, control("bandwidth").value];
return { ...looked, explored };

// The policy of the pages allows no handlers in the HTML, so these two buttons of the theme are served from here.
document.addEventListener("click", (event) => {
  if (event.target.closest(".btn-download-pdf-button")) window.print();
  if (event.target.closest(".btn-fullscreen-button")) window.toggleFullScreen();
});

// On paper nothing can be unfolded or scrolled into view, and paper is white.
let opened = [];
let theme;
window.addEventListener("beforeprint", () => {
  theme = document.documentElement.dataset.theme;
  document.documentElement.dataset.theme = "light";
  opened = [...document.querySelectorAll("details:not([open])")];
  opened.forEach((details) => (details.open = true));
  document.querySelectorAll("img[loading=lazy]").forEach((image) => (image.loading = "eager"));
});
window.addEventListener("afterprint", () => {
  document.documentElement.dataset.theme = theme;
  opened.forEach((details) => (details.open = false));
});

// The theme looks once which code can be scrolled and gives it to the keyboard. Folded code is looked at when it opens.
document.addEventListener(
  "toggle",
  (event) => {
    for (const code of event.target.querySelectorAll("pre")) {
      if (code.scrollWidth > code.clientWidth) code.tabIndex = 0;
    }
  },
  true,
);

// Excerpts of the search are of the text of a page. Sphinx would take its buttons too, and formulas as they are typed.
function textOf(page, anchor) {
  const article = new DOMParser().parseFromString(page, "text/html").querySelector("article");
  if (!article) return "";
  article.querySelectorAll(".headerlink, .reading-time, button, script, style").forEach((part) => part.remove());
  for (const formula of article.querySelectorAll(".math")) {
    const typed = formula.textContent.replace(/\\[()[\]]/g, "");
    formula.textContent = /[\\{}]/.test(typed) ? " … " : typed;
  }
  const found = anchor && article.querySelector(`[id="${CSS.escape(anchor.slice(1))}"]`);
  return (found || article).textContent.replace(/\s+/g, " ");
}
// The script of the search comes after this one, and declares what it is called by with `const`.
document.addEventListener("DOMContentLoaded", () => {
  if (typeof Search !== "undefined") Search.htmlToText = textOf;
});

// Which tables do not fit, and which of them go on at the right: book.css says so at the table.
function look(box) {
  const hidden = box.scrollWidth - box.clientWidth;
  box.classList.toggle("wide", hidden > 1);
  box.classList.toggle("goes-on", hidden - box.scrollLeft > 1);
  box.tabIndex = hidden > 1 ? 0 : -1; // the theme does not look again when a table is unfolded
}
const sizes = new ResizeObserver((entries) => entries.forEach((entry) => look(entry.target.closest("div"))));
for (const box of document.querySelectorAll(".pst-scrollable-table-container")) {
  sizes.observe(box);
  sizes.observe(box.querySelector("table"));
  box.addEventListener("scroll", () => look(box), { passive: true });
}

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

// The policy of the pages allows no handlers in the HTML, so these two buttons of the theme are served from here.
document.addEventListener("click", (event) => {
  if (event.target.closest(".btn-download-pdf-button")) window.print();
  if (event.target.closest(".btn-fullscreen-button")) window.toggleFullScreen();
});

// On paper nothing can be unfolded or scrolled into view.
let opened = [];
window.addEventListener("beforeprint", () => {
  opened = [...document.querySelectorAll("details:not([open])")];
  opened.forEach((details) => (details.open = true));
  document.querySelectorAll("img[loading=lazy]").forEach((image) => (image.loading = "eager"));
});
window.addEventListener("afterprint", () => opened.forEach((details) => (details.open = false)));

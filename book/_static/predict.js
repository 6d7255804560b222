// Predict as a control, and exercises whose choices answer back. The pages come with plain lists, which
// book/_ext/predict.py has told what to say; without this script they stay what they are.

// --- Predict --------------------------------------------------------------------------------------------------

function make(name, attributes = {}, ...children) {
  const element = Object.assign(document.createElement(name), attributes);
  element.append(...children);
  return element;
}

// Text to be set into a sentence: without the sign at its end, and without the brackets that MathJax looks for.
function clause(text) {
  return text.replace(/\\[()]/g, "").trim().replace(/\s+/g, " ").replace(/[.;]$/, "");
}

function comparison(said, measured) {
  return `You said: ${clause(said)}. Measured: ${clause(measured)}.`;
}

// The list as a group of radio buttons, or of fields for numbers where its points begin with a blank.
function askFor(list, name) {
  const field = make("fieldset", { className: "predict-choices" }, make("legend", { textContent: "Your guess" }));
  Object.assign(field.dataset, list.dataset);
  const question = list.previousElementSibling;
  if (question) {
    question.id = `${name}-question`;
    field.setAttribute("aria-describedby", question.id);
  }
  for (const item of list.children) {
    const blank = /^\s*_+/.test(item.textContent);
    const input = make("input", blank ? { type: "number", step: "any" } : { type: "radio", name });
    const text = make("span", {}, ...item.childNodes);
    if (blank) text.firstChild.data = text.firstChild.data.replace(/^\s*_+\s*/, "");
    const label = make("label", {}, input, " ", text);
    label.dataset.says = clause(text.textContent); // later MathJax has set its formulas
    field.append(label);
  }
  list.replaceWith(field);
  return field;
}

function saidIn(field) {
  const said = [];
  for (const label of field.querySelectorAll("label")) {
    const input = label.firstChild;
    if (input.type === "number" && input.value !== "") said.push(`${input.value} ${label.dataset.says}`);
    if (input.type === "radio" && input.checked) said.push(label.dataset.says);
  }
  return said.join(", ");
}

function compare(fields, result) {
  const guess = make("div", { className: "predict-said", tabIndex: -1 });
  for (const field of fields.filter(saidIn)) {
    guess.append(make("p", { textContent: comparison(saidIn(field), field.dataset.measured) }));
    field.disabled = true;
    const label = field.querySelectorAll("label")[field.dataset.right - 1];
    if (label) label.append(make("span", { className: "predict-right", textContent: "measured" }));
  }
  result.lastElementChild.prepend(guess);
  result.open = true;
  guess.focus();
}

for (const box of document.querySelectorAll(".predict")) {
  const result = document.getElementById(box.dataset.result);
  const lists = [...box.querySelectorAll("ul.predict-choices")];
  if (lists.length === 0) continue;
  const fields = lists.map((list, number) => askFor(list, `${box.dataset.result}-${number}`));
  const button = make("button", { type: "button", textContent: "Compare with the result" });
  const note = make("span", { role: "status" });
  box.append(make("p", { className: "predict-buttons" }, button, " ", note));
  result.firstElementChild.textContent = "Show the result without guessing";
  button.addEventListener("click", () => {
    if (fields.some(saidIn)) {
      compare(fields, result);
      button.parentElement.remove();
      result.firstElementChild.textContent = "Result";
    } else note.textContent = "Nothing is chosen yet.";
  });
}

// An address may lead into a folded result. Most browsers unfold it by themselves.
function unfoldTarget() {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  const result = target && target.closest("details.predict-result:not([open])");
  if (!result) return;
  result.open = true;
  target.scrollIntoView();
}
window.addEventListener("hashchange", unfoldTarget);
unfoldTarget();

// --- exercises ------------------------------------------------------------------------------------------------

// A choice more in the order, or one that is taken back.
function toggled(order, letter) {
  return order.includes(letter) ? order.replace(letter, "") : order + letter;
}

for (const list of document.querySelectorAll("ul.exercise-choices")) {
  const { says, answers } = JSON.parse(list.dataset.verdicts);
  const length = Object.keys(answers)[0].length;
  const letters = [...list.children].map((item) => item.querySelector("strong").textContent);
  const buttons = [...list.children].map((item) => {
    const place = make("span", { className: "exercise-place" });
    const button = make("button", { type: "button", ariaPressed: "false" }, ...item.childNodes, place);
    item.append(button);
    return button;
  });
  const verdict = make("p", { className: "exercise-verdict", role: "status" });
  let order = "";
  list.after(verdict);
  buttons.forEach((button, number) =>
    button.addEventListener("click", () => {
      order = length === 1 ? letters[number] : toggled(order, letters[number]);
      buttons.forEach((other, i) => {
        const place = order.indexOf(letters[i]) + 1;
        other.ariaPressed = String(place > 0);
        other.querySelector(".exercise-place").textContent = length > 1 && place ? ` (${place})` : "";
      });
      verdict.textContent = order.length === length ? says[answers[order]] : "";
    }),
  );
}

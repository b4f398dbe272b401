"use strict";
// Images: each stands once in the page, and is shown in as many places as name its number.
(() => {
  const embedded = JSON.parse(document.getElementById("embedded").textContent);
  for (const image of document.querySelectorAll("img[data-image]")) image.src = embedded[image.dataset.image];
})();

// Plots: figures name colors as CSS variables, which are looked up here, so that a page follows a change of the color scheme.
(() => {
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const resolved = (value, style) => {
    if (Array.isArray(value)) return value.map((entry) => resolved(entry, style));
    if (value && typeof value === "object") return Object.fromEntries(Object.entries(value).map(([key, entry]) => [key, resolved(entry, style)]));
    return typeof value === "string" ? value.replace(/^var\((--[\w-]+)\)$/, (_, name) => style.getPropertyValue(name).trim()) : value;
  };
  const draw = (id) => {
    const element = document.getElementById(id);
    if (!element || !element.clientWidth) return;  // in a folded part: drawn when it is unfolded
    const figure = resolved(figures[id], getComputedStyle(document.documentElement));
    Plotly.react(element, figure.data, figure.layout, { displayModeBar: false, responsive: true });
  };
  const drawAll = () => Object.keys(figures).forEach(draw);
  drawAll();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
  for (const part of document.querySelectorAll("details")) part.addEventListener("toggle", () => {
    if (part.open) for (const plot of part.querySelectorAll(".plot")) draw(plot.id);
  });
})();

// Viewer: enlarges the images of a figure, and shows two of them by turns, as their difference, or over each other.
(() => {
  const $ = (id) => document.getElementById(id);
  const viewer = $("viewer"), stage = $("viewer-stage");
  const reducedMotion = matchMedia("(prefers-reduced-motion: reduce)");
  const BLINK = 700;  // ms that each image is shown
  let shots = [], at = 0, images = [], pairs = [], mode = "side", paused = false, timer = 0;

  function cell(image) {
    const figure = document.createElement("figure"), copy = new Image(), caption = document.createElement("figcaption");
    if (images.length > 1) copy.onload = () => { copy.style.imageRendering = Math.min(copy.clientWidth / copy.naturalWidth, copy.clientHeight / copy.naturalHeight) > 1.5 ? "pixelated" : "auto"; };
    copy.alt = image.alt;
    copy.src = image.src;
    caption.textContent = image.dataset.label;
    figure.append(copy, caption);
    return figure;
  }

  function show() {
    if (!pairs.length) mode = "side";
    stage.className = mode !== "side" ? `stacked ${mode}` : images.length === 4 ? "four" : "";
    stage.replaceChildren(...(mode === "side" ? images : pairs[$("viewer-pair").value || 0]).map(cell));
    viewer.querySelector(".modes").hidden = !pairs.length;
    for (const button of viewer.querySelectorAll("[data-mode]")) button.setAttribute("aria-pressed", button.dataset.mode === mode);
    for (const name of ["blink", "difference", "overlay"]) viewer.querySelector(`.for-${name}`).hidden = mode !== name;
    viewer.querySelector(".for-pair").hidden = pairs.length < 2 || mode === "side";
    $("viewer-title").textContent = shots[at].dataset.title || "";
    if (mode === "blink") stage.firstElementChild.classList.add("now");
    if (mode === "overlay") share();
    amplify();
    run();
  }

  function set(next) {
    if (next === "blink") paused = reducedMotion.matches;
    mode = next;
    show();
  }

  function turn() { for (const figure of stage.children) figure.classList.toggle("now"); }

  function run() {
    clearInterval(timer);
    $("viewer-pause").textContent = paused ? "Play" : "Pause";
    if (mode === "blink" && !paused) timer = setInterval(turn, BLINK);
  }

  function amplify() {
    $("viewer-gain-value").value = $("viewer-gain").value;
    stage.style.filter = mode === "difference" ? `brightness(${$("viewer-gain").value})` : "";
  }

  function share() {  // the first image left of the edge, the second one right of it
    const part = $("viewer-share").value, edge = $("viewer-edge") || Object.assign(document.createElement("div"), { id: "viewer-edge" });
    stage.children[1].style.clipPath = `inset(0 0 0 ${part}%)`;
    edge.style.left = `calc(8px + (100% - 16px) * ${part / 100})`;
    stage.append(edge);
  }

  function load(index) {
    at = (index + shots.length) % shots.length;
    images = [...shots[at].querySelectorAll("img[data-label]")];
    const compared = images.filter((image) => !("alone" in image.dataset));
    pairs = compared.flatMap((first, k) => compared.slice(k + 1).filter((second) => second.dataset.group === first.dataset.group).map((second) => [first, second])).reverse();
    $("viewer-pair").replaceChildren(...pairs.map((pair, k) =>
      Object.assign(document.createElement("option"), { value: k, textContent: pair.map((image) => image.dataset.label).join(" and ") })));
    show();
  }

  document.addEventListener("click", (event) => {
    const asked = event.target.closest("button.frame, button[data-open]"), shot = asked && asked.closest(".shot");
    if (!shot) return;
    shots = [...shot.closest("section").querySelectorAll(".shot")].filter((one) => one.querySelector("img[data-label]"));
    mode = asked.dataset.open || "side";
    paused = reducedMotion.matches;
    load(shots.indexOf(shot));
    viewer.showModal();
    show();
  });
  for (const button of viewer.querySelectorAll("[data-mode]")) button.addEventListener("click", () => set(button.dataset.mode));
  $("viewer-close").addEventListener("click", () => viewer.close());
  $("viewer-pair").addEventListener("change", show);
  $("viewer-gain").addEventListener("input", amplify);
  $("viewer-share").addEventListener("input", share);
  $("viewer-pause").addEventListener("click", () => { paused = !paused; run(); });
  stage.addEventListener("click", () => {
    if (mode !== "blink") return;
    paused = true;
    run();
    turn();
  });
  viewer.addEventListener("close", () => { clearInterval(timer); stage.replaceChildren(); });
  viewer.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const modes = { s: "side", b: "blink", x: "difference", o: "overlay" }, key = event.key.toLowerCase();
    const steps = event.target.matches("input, select") ? {} : { arrowright: 1, arrowleft: -1 };
    if (key in modes && pairs.length) set(modes[key]);
    else if (key === " " && mode === "blink" && !event.target.matches("#viewer-pause, #viewer-close")) { paused = !paused; run(); }
    else if (key in steps) load(at + steps[key]);
    else return;
    event.preventDefault();
  });
})();

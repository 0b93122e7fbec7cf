// Figures are drawn when they come near the screen, all of them before printing. No foreign text is written as HTML here.
"use strict";
globalThis.unpack = async (packed) => {
  if (typeof DecompressionStream === "undefined") throw new Error("This browser is too old to unpack it (before 2023).");
  const bytes = Uint8Array.from(atob(packed), (char) => char.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).text();
};
(() => {
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const canvases = [...document.querySelectorAll(".canvas")];
  const hidden = new Set();
  const touch = matchMedia("(pointer: coarse)").matches;

  // --- light and dark
  const root = document.documentElement;
  const toggle = document.getElementById("theme");
  const prefersDark = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme ?? (prefersDark.matches ? "dark" : "light")) === "dark";
  const nameToggle = () => { toggle.textContent = isDark() ? "Light" : "Dark"; };
  toggle.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    nameToggle();
  });
  prefersDark.addEventListener("change", nameToggle);
  nameToggle();

  // --- figures
  const config = {
    responsive: true,
    displaylogo: false,
    // Named one by one: plotly.js has a button that sends a figure to a server.
    modeBarButtons: [["toImage"], ["zoom2d", "pan2d", "resetScale2d"]],
    showSendToCloud: false,
    plotlyServerURL: "",
  };

  // plotly.js lies packed in the page; the content security policy allows this one script by its hash.
  const plotly = globalThis.unpack(document.getElementById("plotly").textContent).then((code) => {
    const script = document.createElement("script");
    script.textContent = code;
    document.head.append(script);
  });
  plotly.catch((error) => canvases.forEach((canvas) => { canvas.textContent = `Not drawn: ${error.message} The data is below.`; }));

  function draw(canvas) {
    if (canvas.dataset.drawn || !globalThis.Plotly) return;
    canvas.dataset.drawn = "yes";
    const figure = figures[canvas.dataset.figure];
    if (touch) figure.layout.dragmode = false;
    // In narrow columns the numbers of a heat map would run into each other; the table below has them.
    figure.data.filter((trace) => trace.type === "heatmap" && canvas.clientWidth < 32 * trace.x.length)
      .forEach((trace) => { trace.texttemplate = ""; });
    canvas.style.minHeight = `${figure.layout.height}px`;
    Plotly.newPlot(canvas, figure.data, figure.layout, config);
    hidden.forEach((method) => show(canvas, method, false));
  }

  function show(canvas, method, visible) {
    const numbers = canvas.data.flatMap((trace, number) => (trace.legendgroup === method ? [number] : []));
    if (numbers.length) Plotly.restyle(canvas, { visible }, numbers);
  }

  const near = new IntersectionObserver(
    (entries) => entries.filter((entry) => entry.isIntersecting).forEach((entry) => {
      near.unobserve(entry.target);
      plotly.then(() => draw(entry.target), () => {});
    }),
    { rootMargin: "500px" },
  );
  canvases.forEach((canvas) => near.observe(canvas));

  // --- one switch a method for all figures
  for (const button of document.querySelectorAll(".method")) {
    button.addEventListener("click", () => {
      const method = button.dataset.method;
      const visible = hidden.has(method);
      if (visible) hidden.delete(method); else hidden.add(method);
      button.setAttribute("aria-pressed", String(visible));
      canvases.filter((canvas) => canvas.dataset.drawn).forEach((canvas) => show(canvas, method, visible));
    });
  }

  // --- paper
  addEventListener("beforeprint", () => {
    canvases.forEach(draw);
    canvases.filter((canvas) => canvas.dataset.drawn).forEach((canvas) => {
      const width = canvas.closest(".wide") ? 660 : 215;
      Plotly.relayout(canvas, { width, height: canvas.closest(".wide") ? canvas.layout.height : 190, "font.size": 9 });
    });
  });
  addEventListener("afterprint", () => {
    canvases.filter((canvas) => canvas.dataset.drawn).forEach((canvas) => {
      Plotly.relayout(canvas, { width: null, height: figures[canvas.dataset.figure].layout.height, "font.size": 12 });
    });
  });
})();

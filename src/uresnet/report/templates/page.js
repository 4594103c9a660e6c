"use strict";
(() => {
  const viewer = document.getElementById("viewer");
  const hidden = new Set();
  const SVG = "http://www.w3.org/2000/svg";
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];

  const showStructures = () => {
    all("path[data-id]").forEach((path) => { path.style.display = hidden.has(path.dataset.id) ? "none" : ""; });
  };
  const boxes = all("input[data-structure]");
  const read = () => {
    boxes.forEach((box) => (box.checked ? hidden.delete(box.dataset.structure) : hidden.add(box.dataset.structure)));
    showStructures();
  };
  boxes.forEach((box) => box.addEventListener("change", read));
  all("button[data-all]").forEach((button) => button.addEventListener("click", () => {
    const { all: which } = button.dataset;
    boxes.forEach((box) => { box.checked = which === "on" || (which === "deep" && !COVERING.includes(box.dataset.structure)); });
    read();
  }));
  all("input[data-outline]").forEach((box) => {
    const show = () => {
      all(`.${box.dataset.outline}-outline`).forEach((group) => { group.style.display = box.checked ? "" : "none"; });
    };
    box.addEventListener("change", show);
    show();
  });
  // Outlines of cortex and white matter run everywhere: they wait until they are asked for.
  const COVERING = ["2", "41", "3", "42", "7", "46", "8", "47"];
  if (boxes.length > 8) boxes.forEach((box) => { if (COVERING.includes(box.dataset.structure)) box.checked = false; });
  else all(".legend .first").forEach((part) => part.remove());
  read();
  // Many structures would push everything else off a phone's screen.
  if (boxes.length > 8 && matchMedia("(max-width:40rem)").matches) all("details.legend").forEach((legend) => { legend.open = false; });

  const byNumberWithin = new Intl.Collator(undefined, { numeric: true });
  all("table.sortable th[data-sort] button").forEach((button) => button.addEventListener("click", () => {
    const head = button.parentElement;
    const body = head.closest("table").tBodies[0];
    const rising = head.getAttribute("aria-sort") !== "ascending";
    const key = (row) => {
      const cell = row.cells[head.cellIndex];
      return head.dataset.sort === "number" ? Number.parseFloat(cell.dataset.value) : cell.textContent;
    };
    const number = (value) => (Number.isNaN(value) ? -Infinity : value);
    const order = head.dataset.sort === "number"
      ? (a, b) => number(a[0]) - number(b[0])
      : (a, b) => byNumberWithin.compare(a[0], b[0]);
    const rows = [...body.rows].map((row) => [key(row), row]).sort(order);
    if (!rising) rows.reverse();
    body.append(...rows.map(([, row]) => row));
    all("th[data-sort]", head.parentElement).forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", rising ? "ascending" : "descending");
  }));
  if (navigator.clipboard) all(".command").forEach((command) => {
    const button = Object.assign(document.createElement("button"), { type: "button", textContent: "Copy" });
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(command.querySelector("code").textContent);
      button.textContent = "Copied";
      setTimeout(() => { button.textContent = "Copy"; }, 1500);
    });
    command.append(button);
  });
  if (!viewer) return;

  const lights = all("input[data-light]", viewer);
  const isZoomed = () => viewer.classList.contains("zoomed");
  const shine = (range) => {
    viewer.style.setProperty(`--${range.dataset.light}`, range.value);
    if (range.dataset.light === "zoom") viewer.classList.toggle("zoomed", Number(range.value) > 1);
  };
  lights.forEach((range) => range.addEventListener("input", () => shine(range)));
  all("button[data-reset]", viewer).forEach((button) => button.addEventListener("click", () => {
    lights.forEach((range) => { range.value = range.defaultValue; shine(range); });
  }));
  // The point of an enlarged picture that is under the pointer stays where it is.
  all(".panel .stage", viewer).forEach((stage) => stage.addEventListener("pointermove", (event) => {
    if (!isZoomed()) return;
    const box = stage.getBoundingClientRect();
    stage.style.setProperty("--x", `${(100 * (event.clientX - box.left)) / box.width}%`);
    stage.style.setProperty("--y", `${(100 * (event.clientY - box.top)) / box.height}%`);
  }));
  all("button[data-large]", viewer).forEach((button) => button.addEventListener("click", () => {
    button.setAttribute("aria-pressed", String(viewer.classList.toggle("large")));
  }));

  all("input[data-fill]").forEach((box) => {
    const fill = () => viewer.classList.toggle("fill", box.checked);
    box.addEventListener("change", fill);
    fill();
  });

  const split = document.getElementById("split");
  const place = (percent) => {
    const value = Math.min(100, Math.max(0, percent));
    split.value = String(Math.round(value));
    viewer.style.setProperty("--split", `${value}%`);
  };
  let timer = 0;
  const setMode = (mode) => {
    viewer.dataset.mode = mode;
    viewer.classList.remove("off");
    clearInterval(timer);
    if (mode === "flicker") timer = setInterval(() => viewer.classList.toggle("off"), 600);
    all("button[data-mode]", viewer).forEach((button) => button.setAttribute("aria-pressed", String(button.dataset.mode === mode)));
  };
  all("button[data-mode]", viewer).forEach((button) => button.addEventListener("click", () => setMode(button.dataset.mode)));
  if (split) {
    split.addEventListener("input", () => { setMode("slide"); place(Number(split.value)); });
    all(".panel .stage", viewer).forEach((stage) => {
      const follow = (event) => {
        const box = stage.getBoundingClientRect();
        place((100 * (event.clientX - box.left)) / box.width);
      };
      stage.addEventListener("pointerdown", (event) => {
        if (isZoomed()) return;
        stage.setPointerCapture(event.pointerId);
        setMode("slide");
        follow(event);
      });
      stage.addEventListener("pointermove", (event) => { if (stage.hasPointerCapture(event.pointerId)) follow(event); });
    });
    place(50);
  }
  setMode("slide");

  const data = document.getElementById("slices");
  const planes = data ? JSON.parse(data.textContent) : [];
  const colours = {};
  all("input[data-structure]").forEach((box) => {
    colours[box.dataset.structure] = box.parentElement.querySelector("rect").getAttribute("fill");
  });
  const draw = (group, paths) => {
    group.replaceChildren(...Object.keys(colours).filter((id) => paths[id]).map((id) => {
      const path = document.createElementNS(SVG, "path");
      path.dataset.id = id;
      path.setAttribute("stroke", colours[id]);
      path.setAttribute("fill", colours[id]);
      path.setAttribute("d", paths[id]);
      return path;
    }));
  };
  const shown = []; // by plane: shows a slice
  all(".panel[data-plane]", viewer).forEach((panel) => {
    const plane = planes[Number(panel.dataset.plane)];
    const range = panel.querySelector("input.slice");
    const show = (n) => {
      for (const kind of ["fixed", "warped", "moving"]) {
        const image = panel.querySelector(`img.${kind}`);
        if (image && plane.pictures[kind]) image.src = plane.pictures[kind][n];
        if (plane.outlines[kind] && plane.outlines[kind].length) draw(panel.querySelector(`.${kind}-outline`), plane.outlines[kind][n]);
      }
      panel.querySelector("output").textContent = plane.positions[n];
      range.setAttribute("aria-valuetext", plane.positions[n]);
      showStructures();
    };
    range.addEventListener("input", () => show(Number(range.value)));
    shown.push((n) => { range.value = String(n); show(n); });
    panel.querySelector(".stage").addEventListener("wheel", (event) => {
      if (!event.shiftKey) return;
      event.preventDefault();
      range.value = String(Number(range.value) + Math.sign(event.deltaY || event.deltaX));
      show(Number(range.value));
    }, { passive: false });
  });

  const sheet = document.getElementById("sheet");
  const picture = (plane, n) => {
    const button = Object.assign(document.createElement("button"), { type: "button", className: "stage" });
    const source = (plane.pictures.warped || plane.pictures.fixed)[n];
    const image = Object.assign(document.createElement("img"), { src: source, alt: plane.positions[n] });
    const drawing = document.createElementNS(SVG, "svg");
    drawing.setAttribute("viewBox", plane.box);
    drawing.setAttribute("class", "outlines");
    drawing.setAttribute("aria-hidden", "true");
    const group = drawing.appendChild(document.createElementNS(SVG, "g"));
    draw(group, (plane.outlines.fixed || [])[n] || {});
    const place = Object.assign(document.createElement("span"), { className: "edge bottom", textContent: plane.positions[n] });
    button.append(image, drawing, place);
    return button;
  };
  if (sheet) sheet.addEventListener("toggle", () => {
    all(".slices", sheet).forEach((row) => {
      if (!sheet.open || row.children.length) return;
      const number = Number(row.dataset.plane);
      row.replaceChildren(...planes[number].positions.map((_, n) => {
        const button = picture(planes[number], n);
        button.addEventListener("click", () => {
          shown[number](n);
          viewer.scrollIntoView({ block: "start" });
        });
        return button;
      }));
    });
    showStructures();
  });
})();

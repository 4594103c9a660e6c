import { NiiVue } from "/niivue.js";

const text = document.getElementById("place");
const looks = {
  fixed: { colormap: "gray", opacity: 1 },
  warped: { colormap: "gray", opacity: 0 },
  fixed_dseg: { opacity: 0 },
  warped_dseg: { opacity: 0.45 },
  jacobian: { colormap: "blue2red", opacity: 0, cal_min: 0.5, cal_max: 1.5 },
};
const titles = { fixed: "Fixed image", warped: "Warped image", fixed_dseg: "Fixed structures", warped_dseg: "Warped structures", jacobian: "Jacobian" };

const colourTable = (labels) => {
  const ids = Object.keys(labels).map(Number).sort((a, b) => a - b);
  return {
    R: ids.map((i) => labels[i].colour[0]), G: ids.map((i) => labels[i].colour[1]), B: ids.map((i) => labels[i].colour[2]),
    A: ids.map((i) => (i === 0 ? 0 : 255)), I: ids, labels: ids.map((i) => labels[i].name),
  };
};

// Rays through a volume are for graphics hardware; slices are quick on any processor.
const drawnInSoftware = () => {
  const context = document.createElement("canvas").getContext("webgl2");
  const told = context && context.getExtension("WEBGL_debug_renderer_info");
  return !told || /swiftshader|llvmpipe|software/i.test(context.getParameter(told.UNMASKED_RENDERER_WEBGL));
};

const start = async () => {
  text.textContent = "Loading the images …";
  const { layers, labels } = await (await fetch("/layers.json")).json();
  const viewer = new NiiVue({ backColor: [0, 0, 0, 1], show3Dcrosshair: true, multiplanarShowRender: drawnInSoftware() ? 0 : 2, isRadiologicalConvention: true, loadingText: "" });
  viewer.onLocationChange = (at) => { text.textContent = at.string; };
  await viewer.attachToCanvas(document.getElementById("canvas"));
  await viewer.loadVolumes(layers.map((one, n) => ({ ...looks[one.name], url: one.url, name: one.url.slice(8), ...(n === 0 ? { opacity: 1 } : {}) })));
  const table = colourTable(labels);
  layers.forEach((one, n) => { if (one.name.endsWith("_dseg")) viewer.volumes[n].setColormapLabel(table); });
  viewer.updateGLVolume();
  viewer.setSliceType(viewer.sliceTypeMultiplanar);
  layers.forEach((one, n) => {
    const label = document.createElement("label");
    const range = Object.assign(document.createElement("input"), { type: "range", min: "0", max: "1", step: "0.05", value: String(viewer.volumes[n].opacity) });
    range.addEventListener("input", () => viewer.setOpacity(n, Number(range.value)));
    label.append(titles[one.name] || one.name, " ", range);
    document.getElementById("layers").append(label);
  });
  if (text.textContent.startsWith("Loading")) text.textContent = "Click to move the crosshair, scroll to go through the slices.";
  document.body.dataset.ready = String(viewer.volumes.length);
};
start().catch((error) => { text.textContent = `The viewer could not start: ${error.message || error}`; document.body.dataset.ready = "failed"; });

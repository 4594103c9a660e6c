// NiiVue is driven as a notebook drives it: the ipyniivue package ships it as an anywidget, a module whose `initialize`
// and `render` take a model. The models below hold what a notebook's kernel would hold.
import widget from "/niivue.js";

const place = document.getElementById("place");
const screen = document.getElementById("screen");
const LAYERS = {
  fixed: { title: "Fixed image", colormap: "gray", opacity: 1 },
  warped: { title: "Warped image", colormap: "gray", opacity: 0 },
  fixed_dseg: { title: "Fixed structures", opacity: 0 },
  warped_dseg: { title: "Warped structures", opacity: 0.45 },
  jacobian: { title: "Jacobian (0.5 smaller … 1.5 larger in the moving image)", colormap: "blue2red", opacity: 0, cal_min: 0.5, cal_max: 1.5, colorbar_visible: false },
};
const NEVER = 0, AUTOMATIC = 2, MULTIPLANAR = 3; // NiiVue's numbers for when to render in 3D, and for the slice type

class Model {
  constructor(values, receive = () => {}) {
    this.values = values;
    this.receive = receive;
    this.listeners = {};
    this._comm_live = false; // no kernel: the widget sends no voxels back
  }
  get(name) { return this.values[name]; }
  set(name, value) {
    if (this.values[name] === value) return;
    this.values[name] = value;
    (this.listeners[`change:${name}`] ?? []).forEach((call) => call());
  }
  on(event, call) { (this.listeners[event] ??= []).push(call); }
  off(event, call) { this.listeners[event] = (this.listeners[event] ?? []).filter((other) => call && other !== call); }
  save_changes() {}
  send(message) { this.receive(message); }
  send_sync_message() {}
}

// The values of an ipyniivue Volume.
const volumeModel = ({ name, url }, first, labels) => new Model({
  id: name, name: url.split("/").at(-1), url, path: {}, data: null, paired_img_path: {}, paired_img_url: "", paired_img_data: null,
  colormap: "gray", colormap_negative: "", colormap_type: 0, colormap_invert: false, colorbar_visible: false,
  cal_min: null, cal_max: null, cal_min_neg: null, cal_max_neg: null, frame_4d: 0, modulation_image: null, modulate_alpha: 0,
  ...LAYERS[name], ...(first ? { opacity: 1 } : {}),
  colormap_label: name.endsWith("_dseg") ? { ...labels } : null,
});

// The values of an ipyniivue NiiVue.
const viewerModel = (volumes, drawnInSoftware) => {
  const model = new Model({
    opts: {
      backColor: [0, 0, 0, 1], show3Dcrosshair: true, isRadiologicalConvention: true, sagittalNoseLeft: true, isColorbar: true, loadingText: "", sliceType: MULTIPLANAR,
      multiplanarShowRender: drawnInSoftware ? NEVER : AUTOMATIC,
    },
    height: screen.clientHeight, volumes: [...volumes.keys()].map((name) => `IPY_MODEL_${name}`), meshes: [],
    background_masks_overlays: 0, overlay_outline_width: 0, overlay_alpha_shader: 1, draw_opacity: 0.8, draw_fill_overwrites: true,
  }, ({ event, data }) => { if (event === "location_change") place.textContent = data.string; });
  model.widget_manager = { get_model: async (name) => volumes.get(name) };
  return model;
};

// Rendering in 3D needs graphics hardware; slices are fast on any processor.
const isDrawnInSoftware = () => {
  const context = document.createElement("canvas").getContext("webgl2");
  if (!context) throw new Error("this browser has no WebGL 2");
  const info = context.getExtension("WEBGL_debug_renderer_info");
  return !info || /swiftshader|llvmpipe|software/i.test(context.getParameter(info.UNMASKED_RENDERER_WEBGL));
};

const opacitySlider = (name, model) => {
  const label = document.createElement("label");
  const range = Object.assign(document.createElement("input"), { type: "range", min: "0", max: "1", step: "0.05", value: String(model.get("opacity")) });
  range.addEventListener("input", () => {
    model.set("opacity", Number(range.value));
    if (name === "jacobian") model.set("colorbar_visible", Number(range.value) > 0);
  });
  label.append(LAYERS[name].title, " ", range);
  return label;
};

const start = async () => {
  place.textContent = "Loading the images …";
  const { layers, labels } = await (await fetch("/layers.json")).json();
  const volumes = new Map(layers.map((layer, n) => [layer.name, volumeModel(layer, n === 0, labels)]));
  const model = viewerModel(volumes, isDrawnInSoftware());
  await widget.initialize({ model });
  await widget.render({ model, el: screen });
  const canvas = screen.querySelector("canvas");
  canvas.tabIndex = 0;
  canvas.setAttribute("aria-label", "Linked slices of the images; click to move the crosshair, scroll to change the slice");
  document.getElementById("layers").append(...[...volumes].map(([name, volume]) => opacitySlider(name, volume)));
  if (place.textContent.startsWith("Loading")) place.textContent = "Click to move the crosshair, scroll to change the slice.";
  document.body.dataset.ready = String(volumes.size);
};
start().catch((error) => { place.textContent = `The viewer could not start: ${error.message || error}.`; document.body.dataset.ready = "failed"; });

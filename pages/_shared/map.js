// The map widget. Before this text, Python puts Leaflet as `L` and the outlines of countries as `WORLD` (or null):
// together they are one ES module. It asks nothing of the network but online tiles, and those only when told to.

// Shared by every copy of this module, so that a root that changes hands between two kinds of map is left clean.
const shared = (globalThis[Symbol.for("meantime.maps")] ??= { widgets: new WeakMap(), memory: new Map() });

const TILES = "https://tile.openstreetmap.org/{z}/{x}/{y}.png";
const TILES_BY = '&copy; <a href="https://www.openstreetmap.org/copyright" target="_blank">OpenStreetMap</a>';
const WHOLE = L.latLngBounds([-60, -180], [78, 180]);
const EDGE = 85.05; // degrees of latitude where Web Mercator ends
const STILL = 4; // pixels that a hand may tremble in a click
const NEAR = 12; // pixels around the first corner that close a polygon

const ICONS = {
  rectangle: '<rect x="3" y="4" width="12" height="10"/>',
  polygon: '<path d="M4 7 10 3 15 8 12 15 5 14Z"/>',
  clear: '<path d="m4 4 10 10M14 4 4 14"/>',
  fit: '<path d="M3 7V3h4M11 3h4v4M15 11v4h-4M7 15H3v-4"/>',
  in: '<path d="M9 3v12M3 9h12"/>',
  out: '<path d="M3 9h12"/>',
};

function node(tag, className, parent, attributes = {}) {
  const made = document.createElement(tag);
  made.className = className;
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  parent?.append(made);
  return made;
}

const bounds = ([west, south, east, north]) => L.latLngBounds([south, west], [north, east]);
const latLngs = (ring) => ring.map(([lon, lat]) => [lat, lon]);
const degrees = (value) => Math.round(value * 1e6) / 1e6;
const union = (all) => all.reduce((sum, one) => sum.extend(one), L.latLngBounds([]));

class Widget {
  constructor(root, data) {
    this.identity = identity(data);
    this.kept = shared.memory.get(data.key) ?? {};
    shared.memory.set(data.key, this.kept);
    this.box = node("div", `meantime ${data.kind}`, root, { "data-testid": "map-widget", "data-ready": "false" });
    this.bar = node("div", "bar", this.box, { role: "toolbar", "aria-label": "Map tools" });
    this.stage = node("div", "stage", this.box);
    this.maps = [];
    this.watch = new ResizeObserver(() => this.resize());
    this.watch.observe(this.stage);
  }

  button(name, text, title, action) {
    const labels = { type: "button", title, "aria-label": title, "data-testid": `map-${name}` };
    const made = node("button", name, this.bar, labels);
    made.innerHTML = `<svg viewBox="0 0 18 18" aria-hidden="true">${ICONS[name]}</svg>`;
    if (text) node("span", "", made).textContent = text;
    made.addEventListener("click", action);
    return made;
  }

  zoomButtons(what) {
    this.button("fit", `Zoom to ${what}`, `Zoom to ${what}`, () => this.fit());
    this.button("in", "", "Zoom in", () => this.maps[0].zoomIn(1));
    this.button("out", "", "Zoom out", () => this.maps[0].zoomOut(1));
  }

  addMap(label, options = {}) {
    const frame = node("div", "frame", this.stage);
    const element = node("div", "map", frame, { "data-testid": "map" });
    const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
    const map = L.map(element, {
      zoomControl: false, attributionControl: false, trackResize: false,
      maxBounds: [[-89, -190], [89, 190]], maxBoundsViscosity: 0.8,
      minZoom: 1, maxZoom: 22, zoomSnap: 0.25, zoomAnimation: !calm, fadeAnimation: !calm, inertia: !calm, ...options,
    });
    element.setAttribute("role", "region");
    element.setAttribute("aria-label", `${label}. Arrow keys move it, plus and minus zoom.`);
    element.place = (lon, lat) => {
      const { left, top } = element.getBoundingClientRect();
      const point = map.latLngToContainerPoint([lat, lon]);
      return [left + point.x, top + point.y];
    };
    L.control.scale({ imperial: false, position: "bottomleft" }).addTo(map);
    this.pane(map, "pictures", 300);
    map.on("moveend", () => this.moved(map));
    map.on("zoomend", () => this.sharpen());
    this.maps.push(map);
    return map;
  }

  pane(map, name, level) {
    map.createPane(name).style.zIndex = level;
  }

  /** Say where the map is, for tests, and remember it for the next rerun or visit of the page. */
  moved(map) {
    const { lat, lng } = map.getCenter();
    map.getContainer().dataset.center = `${lng.toFixed(6)},${lat.toFixed(6)}`;
    map.getContainer().dataset.zoom = map.getZoom();
    if (this.unseen) return;
    this.kept.view = { center: [lat, lng], zoom: map.getZoom() };
    if (!this.busy) this.kept.fitted = null;
  }

  /** Do something that moves the maps without counting it as the person's wish. */
  quietly(action) {
    const before = this.busy;
    this.busy = true;
    action();
    this.busy = before;
  }

  /** Show the remembered view; fit when there is none, or when what is shown went elsewhere. */
  settle() {
    const place = this.target().toBBoxString();
    const { view } = this.kept;
    const [map] = this.maps;
    const first = !map._loaded;
    if (first) this.quietly(() => map.setView(view?.center ?? [20, 0], view?.zoom ?? 1, { animate: false }));
    const went = this.kept.place !== undefined && this.kept.place !== place;
    const untouched = first && this.kept.fitted === place; // the frame may have another size than it had
    const freed = this.kept.rooted && !this.rooted() && this.target() === WHOLE; // from one place to the whole world
    if (!view || untouched || freed || (went && !map.getBounds().intersects(this.target()))) this.fit();
    this.kept.place = place;
    this.kept.rooted = this.rooted();
  }

  /** Whether what is shown belongs to one place of the world, whatever area is drawn. */
  rooted() {
    return this.pictures?.length > 0 || this.footprints?.length > 0;
  }

  fit() {
    const [map] = this.maps;
    const { x, y } = map.getSize();
    this.unseen = Math.min(x, y) <= 48; // in a closed tab, or not laid out yet; less than the padding shows the world
    if (this.unseen) return;
    this.quietly(() => map.fitBounds(this.target(), { padding: [24, 24], maxZoom: 19, animate: false }));
    this.kept.fitted = this.target().toBBoxString();
  }

  resize() {
    if (!this.stage.clientWidth) return; // hidden, or on its way off the page: what was seen last is kept
    this.quietly(() => this.maps.forEach((map) => map.invalidateSize({ animate: false, pan: true })));
    if (this.unseen || (this.kept.fitted && this.kept.fitted === this.target().toBBoxString())) this.fit();
  }

  /** Put one layer on a map, reusing the picture that is there so that nothing flickers. */
  picture(map, old, layer, pane = "pictures") {
    if (!old) {
      const made = L.imageOverlay(layer.url, bounds(layer.corners), { pane, alt: layer.name });
      made.on("load error", () => this.loaded());
      made.url = layer.url;
      this.waiting += 1;
      return made.addTo(map);
    }
    old.setBounds(bounds(layer.corners));
    old.getElement().alt = layer.name;
    if (old.url !== layer.url) {
      old.url = layer.url;
      this.waiting += 1;
      old.setUrl(layer.url);
    }
    return old;
  }

  loaded() {
    this.waiting = Math.max(0, this.waiting - 1);
    this.sharpen();
    this.box.dataset.ready = this.waiting === 0;
  }

  /** Show pixels as squares once they are larger than the screen's; smooth before. */
  sharpen() {
    for (const image of this.stage.querySelectorAll("img.leaflet-image-layer")) {
      image.classList.toggle("pixels", image.naturalWidth > 0 && image.offsetWidth >= image.naturalWidth);
    }
  }

  update(data, send) {
    this.send = send;
    this.waiting = 0;
    this.box.dataset.ready = "false";
    this.box.style.setProperty("--height", `${data.height}px`);
    this.show(data);
    this.settle();
    this.box.dataset.ready = this.waiting === 0;
  }

  remove() {
    this.watch.disconnect();
    for (const map of this.maps) map.remove();
    this.box.remove();
  }
}

class DrawMap extends Widget {
  constructor(root, data) {
    super(root, data);
    if (data.drawing) this.drawButtons();
    this.zoomButtons(data.drawing ? "area" : "images");
    const map = this.addMap(data.drawing ? "Map to draw an area" : "Map of where the images lie");
    const frame = map.getContainer().parentElement;
    this.hint = node("div", "hint", frame, { role: "status", "data-testid": "map-hint" });
    this.notice = node("div", "notice", frame, { role: "alert", "data-testid": "map-notice" });
    this.legend = node("div", "legend", frame, { "data-testid": "map-legend" });
    L.control.attribution({ prefix: "Leaflet" }).addTo(map);
    this.pane(map, "world", 150);
    this.addWorld(map);
    this.pictures = [];
    this.outlines = L.layerGroup().addTo(map);
    this.area = L.layerGroup().addTo(map);
    this.sketch = L.layerGroup().addTo(map);
    this.addPen(map);
    this.box.addEventListener("keydown", (event) => this.key(event));
  }

  drawButtons() {
    this.tools = {
      rectangle: this.button("rectangle", "Rectangle", "Draw a rectangle", () => this.toggle("rectangle")),
      polygon: this.button("polygon", "Polygon", "Draw a polygon", () => this.toggle("polygon")),
    };
    for (const tool of Object.values(this.tools)) tool.setAttribute("aria-pressed", "false");
    this.clearButton = this.button("clear", "Clear", "Clear the area", () => this.clear());
  }

  addWorld(map) {
    const step = [];
    for (let lon = -180; lon <= 180; lon += 30) step.push([[-EDGE, lon], [EDGE, lon]]);
    for (let lat = -60; lat <= 60; lat += 30) step.push([[lat, -180], [lat, 180]]);
    L.polyline(step, { pane: "world", className: "graticule", interactive: false }).addTo(map);
    if (!WORLD) return;
    const style = { className: "land" };
    L.geoJSON(WORLD, { pane: "world", interactive: false, style, attribution: "Natural Earth" }).addTo(map);
  }

  target() {
    if (this.shown) return L.latLngBounds(latLngs(this.shown));
    const pictures = union(this.pictures.map((one) => one.getBounds()));
    if (pictures.isValid()) return pictures;
    const outlines = union((this.footprints ?? []).map(([, ring]) => L.latLngBounds(latLngs(ring))));
    return outlines.isValid() ? outlines : WHOLE;
  }

  show(data) {
    const [map] = this.maps;
    while (this.pictures.length > data.layers.length) this.pictures.pop().remove();
    data.layers.forEach((layer, i) => (this.pictures[i] = this.picture(map, this.pictures[i], layer)));
    this.footprints = data.footprints;
    this.outlines.clearLayers();
    for (const [name, ring] of data.footprints) {
      const outline = L.polygon(latLngs(ring), { className: "footprint" }).addTo(this.outlines);
      outline.bindTooltip(document.createTextNode(name), { sticky: true });
    }
    this.showArea(data.area);
    this.useTiles(data.tiles);
    this.explain(data);
  }

  showArea(ring) {
    this.shown = ring;
    this.area.clearLayers();
    if (this.clearButton) this.clearButton.disabled = !ring;
    if (!ring) return;
    for (const className of ["casing", "area"]) {
      L.polygon(latLngs(ring), { className, interactive: false }).addTo(this.area);
    }
  }

  explain({ area, layers, footprints }) {
    this.legend.replaceChildren();
    const row = (kind, text) => (node("div", `row ${kind}`, this.legend).textContent = text);
    if (area) row("area", "Area");
    footprints.slice(0, 4).forEach(([name]) => row("footprint", name));
    if (footprints.length > 4) row("footprint", `and ${footprints.length - 4} more`);
    layers.forEach((layer) => row("picture", layer.name));
  }

  useTiles(wanted) {
    if (!wanted) {
      this.tiles?.remove();
      this.tiles = null;
      this.notice.textContent = "";
      return;
    }
    if (this.tiles) return;
    this.tiles = L.tileLayer(TILES, { attribution: TILES_BY, maxNativeZoom: 19, maxZoom: 22, noWrap: true });
    const say = (text) => (this.notice.textContent = text);
    this.tiles.on("tileerror", () => say("Online tiles do not load: the offline map is shown."));
    this.tiles.on("tileload", () => say(""));
    this.tiles.addTo(this.maps[0]);
  }

  /** A transparent sheet over the map takes the pointer while something is drawn; the wheel still zooms. */
  addPen(map) {
    this.pen = node("div", "pen", map.getContainer(), { "data-testid": "map-pen" });
    this.pen.hidden = true;
    for (const type of ["pointerdown", "pointermove", "pointerup", "click", "dblclick"]) {
      this.pen.addEventListener(type, (event) => {
        event.stopPropagation();
        if (this.tool) this[this.tool](event, this.at(event));
      });
    }
    this.pen.addEventListener("pointercancel", () => this.start(this.tool));
    for (const type of ["mousedown", "mouseup", "touchstart"]) {
      this.pen.addEventListener(type, (event) => event.stopPropagation());
    }
  }

  at(event) {
    const { lat, lng } = this.maps[0].mouseEventToLatLng(event);
    return L.latLng(Math.min(EDGE, Math.max(-EDGE, lat)), Math.min(180, Math.max(-180, lng)));
  }

  distance(a, b) {
    const [map] = this.maps;
    return map.latLngToContainerPoint(a).distanceTo(map.latLngToContainerPoint(b));
  }

  toggle(tool) {
    if (this.tool === tool) this.stop();
    else this.start(tool);
  }

  start(tool) {
    this.stop();
    this.tool = tool;
    this.points = [];
    this.pen.hidden = false;
    this.tools[tool].setAttribute("aria-pressed", "true");
    this.hint.textContent = {
      rectangle: "Drag from corner to corner, or click two corners. Esc cancels.",
      polygon: "Click the corners; double click, Enter or the first corner closes. Backspace undoes, Esc cancels.",
    }[tool];
    this.maps[0].getContainer().focus({ preventScroll: true }); // else Enter would press the button again
  }

  stop() {
    if (this.tool) this.tools[this.tool].setAttribute("aria-pressed", "false");
    this.tool = null;
    this.pen.hidden = true;
    this.hint.textContent = "";
    this.sketch.clearLayers();
  }

  key(event) {
    if (!this.tool) return;
    if (event.key === "Escape") {
      const { tool } = this;
      this.stop();
      this.tools[tool].focus();
    } else if (event.key === "Enter" && this.tool === "polygon" && event.target.localName !== "button") {
      this.close();
    } else if (event.key === "Backspace" && this.tool === "polygon") {
      this.points.pop();
      this.sketchPolygon();
    } else return;
    event.preventDefault();
    event.stopPropagation();
  }

  rectangle(event, here) {
    if (event.type === "pointerdown" && event.isPrimary && event.button === 0) {
      this.pen.setPointerCapture(event.pointerId);
      this.points[0] ??= here;
      this.pressed = true;
    } else if (event.type === "pointermove" && this.points[0]) {
      this.sketchPolygon(corners(this.points[0], here));
    } else if (event.type === "pointerup" && this.pressed) {
      this.pressed = false;
      const ring = corners(this.points[0], here);
      const [width, height] = [this.distance(ring[0], ring[1]), this.distance(ring[1], ring[2])];
      if (Math.min(width, height) > STILL) this.finish(ring); // else it was the first of two clicks
    }
  }

  polygon(event, here) {
    const { points } = this;
    if (event.type === "pointermove") this.sketchPolygon([...points, here]);
    if (event.type === "dblclick") this.close();
    if (event.type !== "click") return;
    if (points.length >= 3 && this.distance(points[0], here) < NEAR) this.close();
    else if (!points.length || this.distance(points.at(-1), here) > STILL) points.push(here);
    this.sketchPolygon();
  }

  close() {
    if (this.points.length >= 3) this.finish(this.points);
    else this.hint.textContent = "A polygon needs at least three corners: click more. Esc cancels.";
  }

  sketchPolygon(points = this.points) {
    this.sketch.clearLayers();
    if (!this.tool) return;
    L.polygon(points, { className: "sketch", interactive: false }).addTo(this.sketch);
    if (this.tool !== "polygon") return;
    const dot = { radius: 5, className: "corner", interactive: false };
    for (const point of this.points) L.circleMarker(point, dot).addTo(this.sketch);
  }

  finish(points) {
    const { tool } = this;
    const ring = points.map((point) => [degrees(point.lng), degrees(point.lat)]);
    this.stop();
    this.tools[tool].focus({ preventScroll: true });
    this.showArea(ring);
    this.send("drawn", { ring });
  }

  clear() {
    this.stop();
    this.showArea(null);
    this.send("drawn", { ring: null });
  }
}

function corners(a, b) {
  const box = L.latLngBounds([a, b]);
  return [box.getSouthWest(), box.getSouthEast(), box.getNorthEast(), box.getNorthWest()];
}

class CompareMaps extends Widget {
  constructor(root, data) {
    super(root, data);
    this.zoomButtons("images");
    const swipe = data.mode === "swipe";
    this.stage.classList.add(data.mode, `of-${data.layers.length}`);
    const count = swipe ? 1 : data.layers.length;
    for (let i = 0; i < count; i += 1) {
      const name = swipe ? data.layers.map((layer) => layer.name).join(" and ") : data.layers[i].name;
      const label = `Map of ${name}. Enter picks the pixel in the middle`;
      // zooming at once, not in steps of an animation, keeps linked maps on the same place
      const map = this.addMap(label, swipe ? {} : { zoomAnimation: false });
      map.on("click", (event) => this.pick(event.latlng));
      map.getContainer().addEventListener("keydown", (event) => {
        if (event.key === "Enter") this.pick(map.getCenter());
      });
      if (!swipe) map.on("move zoom", () => this.follow(map));
    }
    this.labels = data.layers.map((_, i) => {
      const frame = this.maps[swipe ? 0 : i].getContainer().parentElement;
      return node("div", `label ${swipe && i ? "right" : "left"}`, frame, { "data-testid": "map-label" });
    });
    this.pictures = [];
    if (swipe) this.addHandle(this.maps[0]);
  }

  target() {
    return union(this.pictures.map((one) => one.getBounds()));
  }

  show(data) {
    const swipe = data.mode === "swipe";
    data.layers.forEach((layer, i) => {
      const map = this.maps[swipe ? 0 : i];
      this.pictures[i] = this.picture(map, this.pictures[i], layer, swipe ? `side-${i}` : "pictures");
      this.labels[i].textContent = layer.name;
    });
    const names = data.layers.map((layer) => layer.name);
    this.handle?.setAttribute("aria-label", `Swipe between ${names.join(" and ")}`);
    if (data.marker && String(data.marker) !== this.kept.given) this.kept.marker = data.marker;
    this.kept.given = String(data.marker);
  }

  settle() {
    super.settle();
    if (this.handle) this.slide(this.kept.swipe ?? 50);
    else this.quietly(() => this.follow(this.maps[0]));
    this.mark();
  }

  /** Bring the other maps to where this one is. */
  follow(map) {
    if (this.following) return;
    this.following = true;
    for (const other of this.maps) {
      if (other !== map) other.setView(map.getCenter(), map.getZoom(), { animate: false });
    }
    this.following = false;
  }

  resize() {
    this.following = true; // each map keeps its own middle; they agree on it already
    super.resize();
    this.following = false;
    if (this.handle) this.slide(this.kept.swipe ?? 50);
    else if (this.maps[0]._loaded) this.quietly(() => this.follow(this.maps[0]));
  }

  pick({ lat, lng }) {
    this.kept.marker = [degrees(lng), degrees(lat)];
    this.mark();
    this.send("clicked", this.kept.marker);
  }

  mark() {
    this.markers?.forEach((marker) => marker.remove());
    const { marker } = this.kept;
    if (!marker) return;
    const icon = L.divIcon({ className: "cross", iconSize: [25, 25] });
    const options = { icon, interactive: false, keyboard: false };
    this.markers = this.maps.map((map) => L.marker([marker[1], marker[0]], options).addTo(map));
  }

  addHandle(map) {
    this.pane(map, "side-0", 310);
    this.pane(map, "side-1", 311);
    this.handle = node("div", "handle", map.getContainer().parentElement, {
      role: "slider", tabindex: "0", "aria-orientation": "horizontal", "aria-valuemin": "0", "aria-valuemax": "100",
      "data-testid": "map-swipe",
    });
    map.on("move zoom viewreset", () => this.cut());
    this.handle.addEventListener("pointerdown", (event) => {
      this.handle.setPointerCapture(event.pointerId);
      this.handle.focus({ preventScroll: true });
      event.preventDefault();
    });
    this.handle.addEventListener("pointermove", (event) => {
      if (!this.handle.hasPointerCapture(event.pointerId)) return;
      const { left, width } = map.getContainer().getBoundingClientRect();
      this.slide(((event.clientX - left) / width) * 100);
    });
    this.handle.addEventListener("keydown", (event) => {
      const now = this.kept.swipe ?? 50;
      const to = {
        ArrowLeft: now - 2, ArrowDown: now - 2, ArrowRight: now + 2, ArrowUp: now + 2,
        PageDown: now - 10, PageUp: now + 10, Home: 0, End: 100,
      }[event.key];
      if (to === undefined) return;
      event.preventDefault();
      this.slide(to);
    });
  }

  /** Move the handle to a share of the width, in percent. */
  slide(to) {
    const share = Math.min(100, Math.max(0, to));
    this.kept.swipe = share;
    this.handle.style.left = `${share}%`;
    const text = `${Math.round(share)} % ${this.labels[0].textContent}`;
    this.handle.setAttribute("aria-valuenow", Math.round(share));
    this.handle.setAttribute("aria-valuetext", text);
    this.cut();
  }

  /** Show the first layer left of the handle and the second right of it, wherever the map has been dragged. */
  cut() {
    const [map] = this.maps;
    const size = map.getSize();
    const start = map.containerPointToLayerPoint([0, 0]);
    const end = map.containerPointToLayerPoint([size.x, size.y]);
    const x = start.x + (size.x * (this.kept.swipe ?? 50)) / 100;
    const cut = (left, right) =>
      `polygon(${left}px ${start.y}px, ${right}px ${start.y}px, ${right}px ${end.y}px, ${left}px ${end.y}px)`;
    map.getPane("side-0").style.clipPath = cut(start.x, x);
    map.getPane("side-1").style.clipPath = cut(x, end.x);
  }
}

/** What must stay the same for a widget to be updated; anything else builds it anew, with the view it had. */
function identity({ kind, key, mode, layers }) {
  return JSON.stringify(kind === "draw" ? [kind, key] : [kind, key, mode, layers.length]);
}

export default function ({ parentElement: root, data, setTriggerValue }) {
  let widget = shared.widgets.get(root);
  if (widget?.identity !== identity(data)) {
    widget?.remove();
    widget = data.kind === "draw" ? new DrawMap(root, data) : new CompareMaps(root, data);
    shared.widgets.set(root, widget);
  }
  widget.update(data, setTriggerValue);
  // Streamlit also calls this for a render that was overtaken by the next one; only a widget off the page goes.
  return () => {
    if (!root.host.isConnected) {
      shared.widgets.get(root)?.remove();
      shared.widgets.delete(root);
    }
  };
}

"use strict";
(() => {
  const byId = (id) => document.getElementById(id);
  const views = ["picture", "mermaid", "text"];
  let scale = 1;
  const canvases = [...document.querySelectorAll(".canvas")];
  const zoom = (to) => {
    scale = Math.min(8, Math.max(0.05, to));
    for (const c of canvases) c.style.transform = scale === 1 ? "" : `scale(${scale})`;
  };
  const fit = () => {
    const view = views.map(byId).find((v) => !v.hidden);
    const svg = view && view.querySelector("svg");
    zoom(1);
    if (!svg) return;
    const box = svg.getBoundingClientRect();
    zoom(Math.min(1, (view.clientWidth - 32) / box.width, (view.clientHeight - 32) / box.height));
  };
  const show = (name) => {
    for (const v of views) {
      byId(v).hidden = v !== name;
      byId("show-" + v).setAttribute("aria-pressed", String(v === name));
    }
  };
  for (const v of views) byId("show-" + v).addEventListener("click", () => show(v));
  byId("larger").addEventListener("click", () => zoom(scale * 1.25));
  byId("smaller").addEventListener("click", () => zoom(scale / 1.25));
  byId("fit").addEventListener("click", fit);

  // Ctrl and the wheel zoom; the mouse drags.
  for (const v of views.map(byId)) {
    v.addEventListener("wheel", (e) => {
      if (!e.ctrlKey) return;
      e.preventDefault();
      zoom(scale * (e.deltaY < 0 ? 1.1 : 1 / 1.1));
    }, { passive: false });
    v.addEventListener("pointerdown", (e) => {
      if (e.button !== 0 || v.id === "text") return;
      const from = { x: e.clientX + v.scrollLeft, y: e.clientY + v.scrollTop };
      v.classList.add("drag");
      const move = (m) => v.scrollTo(from.x - m.clientX, from.y - m.clientY);
      const up = () => {
        v.classList.remove("drag");
        removeEventListener("pointermove", move);
        removeEventListener("pointerup", up);
      };
      addEventListener("pointermove", move);
      addEventListener("pointerup", up);
    });
  }

  // What a node is connected to stands out while the mouse is on it.
  const edges = [...document.querySelectorAll("#picture .edge")];
  const vertices = [...document.querySelectorAll("#picture .vertex")];
  for (const vertex of vertices) {
    const id = vertex.dataset.id;
    vertex.addEventListener("pointerenter", () => {
      const near = new Set([id]);
      for (const e of edges) {
        const mine = e.dataset.from === id || e.dataset.to === id;
        e.classList.toggle("lit", mine);
        e.classList.toggle("dim", !mine);
        if (mine) near.add(e.dataset.from).add(e.dataset.to);
      }
      for (const v of vertices) v.classList.toggle("dim", !near.has(v.dataset.id));
    });
    vertex.addEventListener("pointerleave", () => {
      for (const e of [...edges, ...vertices]) e.classList.remove("lit", "dim");
    });
  }

  const draw = async () => {
    try {
      mermaid.initialize({ startOnLoad: false, securityLevel: "strict", maxTextSize: 5000000, maxEdges: 100000 });
      const { svg } = await mermaid.render("mermaid-svg", byId("mermaid-text").textContent);
      byId("mermaid-canvas").innerHTML = svg;
      byId("show-mermaid").disabled = false;
      byId("show-mermaid").title = "";
      document.documentElement.dataset.mermaid = "ready";
    } catch (err) {
      document.documentElement.dataset.mermaid = "failed";
      byId("show-mermaid").title = String(err);
    }
  };
  document.documentElement.dataset.page = "ready";
  addEventListener("load", () => {
    fit();
    if (typeof window.mermaid.render === "function") draw(); // else it is our element of that id
    else document.documentElement.dataset.mermaid = "absent";
  });
})();

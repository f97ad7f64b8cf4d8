"use strict";
(async () => {
  const bytes = Uint8Array.from(atob(document.getElementById("library").dataset.code), (char) => char.charCodeAt(0));
  const unpacked = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  const library = document.createElement("script");
  library.textContent = await new Response(unpacked).text();
  document.head.append(library);
  for (const place of document.querySelectorAll(".figure")) {
    const { data, layout } = JSON.parse(place.dataset.figure);
    Plotly.newPlot(place, data, layout, { displaylogo: false, responsive: true });
  }
})();

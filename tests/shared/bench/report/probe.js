// Uses the page as a reader would and tells the page around it what it saw.
const all = (selector, root = document) => [...root.querySelectorAll(selector)];
const visible = (element) => element.getClientRects().length > 0;
const leaderboard = () => all("table.leaderboard").filter(visible)[0];
const methods = () => [...leaderboard().tBodies[0].rows].map((row) => row.querySelector("th a").textContent);
const button = (text) => all("thead button", leaderboard()).find((one) => one.textContent.startsWith(text));
const sort_by = (text) => {
  button(text).click();
  return methods();
};

function overlaps(chart, selector) {
  const boxes = all(selector, chart).filter(visible).map((one) => one.getBoundingClientRect());
  const shared = (a, b, low, high) => Math.min(a[high], b[high]) - Math.max(a[low], b[low]);
  const pairs = boxes.flatMap((a, index) => boxes.slice(index + 1).map((b) => [a, b]));
  // A box of text is taller than its letters, so a few pixels of height are no collision.
  return pairs.filter(([a, b]) => shared(a, b, "left", "right") > 1 && shared(a, b, "top", "bottom") > 4).length;
}
const overlaps_in = (charts, texts) =>
  all(charts).filter(visible).reduce((sum, chart) => sum + overlaps(chart, texts), 0);

const width = document.documentElement.clientWidth;
const seen = {
  width,
  content: document.documentElement.scrollWidth,
  too_wide: all("main *, header *")
    .filter((one) => visible(one) && !one.closest(".scroll, .grids, pre") && one.getBoundingClientRect().right > width + 1)
    .map((one) => `${one.tagName} ${one.getAttribute("class")} ${one.textContent.trim().slice(0, 40)}`),
  resources: performance.getEntriesByType("resource").map((entry) => entry.name),
  tables: all("table.leaderboard").filter(visible).length,
  caption: leaderboard().caption.textContent,
  ranked: methods(),
  overlapping_names: overlaps_in(".chart.scatter", ".names text"),
  overlapping_ticks: overlaps_in(".chart", ".tick") + overlaps_in(".interval-axis", "text"),
};
if (button("Method")) {
  seen.by_name = sort_by("Method");
  seen.by_name_again = sort_by("Method");
  seen.by_cost = sort_by("Fit");
  seen.direction = leaderboard().querySelector("th[aria-sort]").getAttribute("aria-sort");
}
document.querySelector("input[value='mrr@5']").click();
seen.tables_after = all("table.leaderboard").filter(visible).length;
seen.caption_after = leaderboard().caption.textContent;
parent.postMessage(JSON.stringify(seen), "*");

document.documentElement.classList.add("scripted");

const body = document.querySelector("#case-table tbody");
const value = (row, column) => {
  const cell = row.cells[column];
  return column === 0 ? cell.textContent.trim() : parseFloat(cell.dataset.v);
};
document.querySelectorAll("#case-table thead th").forEach((head, column) => {
  const button = document.createElement("button");
  button.type = "button";
  button.append(...head.childNodes);
  head.append(button);
  button.addEventListener("click", () => {
    const sign = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
    head.parentNode.querySelectorAll("th").forEach((th) => th.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
    const rows = [...body.rows].map((row) => [value(row, column), row]);
    rows.sort(([a], [b]) => {
      if (column === 0) return sign * a.localeCompare(b, "en", { numeric: true });
      if (isNaN(a) || isNaN(b)) return isNaN(a) - isNaN(b);
      return sign * (a - b);
    });
    body.append(...rows.map(([, row]) => row));
  });
});

const details = document.querySelectorAll("details");
const setAll = (open) => () => details.forEach((item) => { item.open = open; });
document.getElementById("open-all")?.addEventListener("click", setAll(true));
document.getElementById("close-all")?.addEventListener("click", setAll(false));
const openTarget = () => {
  const target = location.hash && document.getElementById(location.hash.slice(1));
  if (target && target.tagName === "DETAILS") target.open = true;
};
addEventListener("hashchange", openTarget);
openTarget();

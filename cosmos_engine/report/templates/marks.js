// Marks variants, by mouse or keyboard, and exports them as lines of `demo variant` for `augment --exclude`.
{
  const section = document.querySelector("#variants");
  if (section) {
    const comment = section.dataset.listComment;
    const tray = section.querySelector("[data-tray]");
    const list = section.querySelector("[data-list]");
    const say = section.querySelector("[data-say]");
    const groups = [...section.querySelectorAll("[data-group]")];
    const tiles = [...section.querySelectorAll("[data-mark]")];
    const filters = [...section.querySelectorAll("[data-filter]")];
    const key = `cosmos-engine ${comment}`;
    const marks = new Set(remembered());

    // The comment names the certificate, so that pages of other demos of the same dataset share their marks.
    function remembered() {
      try {
        return JSON.parse(localStorage.getItem(key)) ?? [];
      } catch {
        return []; // No storage here, or another's content: begin without marks.
      }
    }
    const remember = () => {
      try {
        localStorage.setItem(key, JSON.stringify(sorted()));
      } catch {
        // Without storage marks last as long as the page.
      }
    };
    const numbers = (mark) => mark.split(" ").map(Number);
    const sorted = () =>
      [...marks].sort((one, other) => {
        const [demo, variant] = numbers(one);
        const [otherDemo, otherVariant] = numbers(other);
        return demo - otherDemo || variant - otherVariant;
      });
    const text = () => [`# ${comment}`, ...sorted()].join("\n") + "\n";

    const show = () => {
      const here = tiles.filter((tile) => marks.has(tile.dataset.mark)).length;
      for (const tile of tiles) {
        const own = marks.has(tile.dataset.mark);
        const demo = `${numbers(tile.dataset.mark)[0]} 0`;
        tile.classList.toggle("marked", own);
        tile.classList.toggle("gone", own || marks.has(demo));
        const button = tile.querySelector("[data-mark-button]");
        button.setAttribute("aria-pressed", own);
        button.textContent = own ? "marked" : "mark";
      }
      for (const group of groups) group.classList.toggle("has-marks", group.querySelector(".marked") !== null);
      tray.hidden = marks.size === 0;
      const elsewhere = marks.size - here;
      section.querySelector("[data-count]").textContent =
        `${marks.size} marked` + (elsewhere ? `, ${elsewhere} of them on other pages` : "");
      list.value = text();
    };
    const toggle = (tile) => {
      const mark = tile.dataset.mark;
      if (!marks.delete(mark)) marks.add(mark);
      say.textContent = "";
      remember();
      show();
    };

    const save = () => {
      if (!marks.size) return;
      const link = document.createElement("a");
      link.href = URL.createObjectURL(new Blob([text()], { type: "text/plain" }));
      link.download = "exclude.txt";
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 1000);
      say.textContent = "exclude.txt saved";
    };
    const copy = async () => {
      try {
        await navigator.clipboard.writeText(text());
        say.textContent = "copied";
      } catch {
        list.closest("details").open = true;
        list.select();
        say.textContent = "copy the list below";
      }
    };
    const clear = () => {
      if (!confirm(`Forget ${marks.size} marks?`)) return;
      marks.clear();
      remember();
      show();
      filter("all");
    };

    const filter = (wanted) => {
      for (const button of filters) button.setAttribute("aria-pressed", button.dataset.filter === wanted);
      for (const group of groups) {
        group.hidden = wanted !== "all" && !group.classList.contains(wanted === "marked" ? "has-marks" : "has-rejections");
      }
    };

    const go = (tile) => {
      if (!tile) return;
      for (const other of tiles) other.tabIndex = -1;
      tile.tabIndex = 0;
      tile.focus({ preventScroll: true });
      tile.scrollIntoView({ block: "nearest" });
    };
    const sideways = (tile, by) => {
      const open = tiles.filter((other) => !other.closest("[data-group]").hidden);
      go(open[open.indexOf(tile) + by]);
    };
    const upDown = (tile, by) => {
      const open = groups.filter((group) => !group.hidden && group.querySelector("[data-mark]"));
      const group = tile.closest("[data-group]");
      const column = [...group.querySelectorAll("[data-mark]")].indexOf(tile);
      const next = open[open.indexOf(group) + by];
      if (!next) return;
      const others = [...next.querySelectorAll("[data-mark]")];
      go(others[Math.min(column, others.length - 1)]);
    };
    const keys = {
      ArrowLeft: (tile) => sideways(tile, -1),
      ArrowRight: (tile) => sideways(tile, 1),
      ArrowUp: (tile) => upDown(tile, -1),
      ArrowDown: (tile) => upDown(tile, 1),
      x: toggle,
      e: save,
      " ": (tile) => tile.closest("[data-sync]").querySelector("[data-play]")?.click(),
    };
    section.addEventListener("keydown", (event) => {
      const tile = event.target.closest?.("[data-mark]");
      const act = keys[event.key];
      const held = event.ctrlKey || event.metaKey || event.altKey;
      if (!tile || !act || held || (event.target !== tile && !event.target.matches("[data-mark-button]"))) return;
      if (event.key === " " && event.target !== tile) return; // Space presses the button that has the focus.
      event.preventDefault();
      act(tile);
    });
    section.addEventListener("click", (event) => {
      const tile = event.target.closest("[data-mark]");
      if (!tile) return;
      if (event.target.closest("[data-mark-button]")) toggle(tile);
      if (!event.target.closest("details")) go(tile);
    });
    section.querySelector("[data-export]").addEventListener("click", save);
    section.querySelector("[data-copy]").addEventListener("click", copy);
    section.querySelector("[data-clear]").addEventListener("click", clear);
    for (const button of filters) button.addEventListener("click", () => filter(button.dataset.filter));

    section.querySelector("[data-marking]").hidden = false;
    for (const button of section.querySelectorAll("[data-mark-button]")) button.hidden = false;
    show();
  }
}

"use strict";
// Keeps the videos of each group in step: the first leads, the others are set right when they drift. A video has its
// source only near the screen: browsers refuse more than some dozens of players on a page.
const DRIFT_S = 0.06;
const NEAR = "100% 0px";
const still = matchMedia("(prefers-reduced-motion: reduce)").matches;

for (const group of document.querySelectorAll("[data-sync]")) {
  const videos = [...group.querySelectorAll("video")];
  const [lead, ...others] = videos;
  const transport = group.querySelector(".transport");
  const button = transport?.querySelector("[data-play]");
  const scrub = transport?.querySelector("[data-scrub]");
  let wanted = !still;
  let visible = false;
  let near = false;

  for (const video of videos) {
    video.controls = !transport;
    video.loop = videos.length === 1;
  }
  if (transport) transport.hidden = false;

  const play = () => {
    for (const video of videos) video.play().catch(() => {});
  };
  const pause = () => {
    for (const video of videos) video.pause();
  };
  const seek = (seconds) => {
    for (const video of videos) video.currentTime = seconds;
  };
  const load = () => {
    for (const video of videos) {
      if (near) video.src = video.dataset.src;
      else video.removeAttribute("src");
      video.load();
    }
  };
  const apply = () => {
    button?.classList.toggle("paused", !wanted);
    if (wanted && visible) play();
    else pause();
  };
  const tick = () => {
    if (!wanted || !visible) return;
    for (const video of others) {
      if (!video.seeking && Math.abs(video.currentTime - lead.currentTime) > DRIFT_S) video.currentTime = lead.currentTime;
    }
    if (scrub && lead.duration) scrub.value = lead.currentTime / lead.duration;
    requestAnimationFrame(tick);
  };

  lead.addEventListener("loadedmetadata", () => {
    // Where the slider was left before the videos were let go.
    if (!wanted && scrub && Number(scrub.value)) seek(scrub.value * lead.duration);
  });
  lead.addEventListener("ended", () => {
    seek(0);
    if (wanted && visible) play();
  });
  button?.addEventListener("click", () => {
    wanted = !wanted;
    apply();
    tick();
  });
  scrub?.addEventListener("input", () => {
    wanted = false;
    apply();
    seek(scrub.value * lead.duration);
  });
  new IntersectionObserver(
    (entries) => {
      const found = entries[entries.length - 1].isIntersecting;
      if (found === near) return;
      near = found;
      load();
      apply();
    },
    { rootMargin: NEAR },
  ).observe(group);
  // Only what is on the screen plays: a page may hold more clips than a machine decodes at once.
  new IntersectionObserver((entries) => {
    visible = entries[entries.length - 1].isIntersecting;
    apply();
    tick();
  }).observe(group);
}

// The sample browser. Everything a model or a benchmark wrote goes into the page by textContent, never as HTML.
"use strict";
(async () => {
  const byId = (id) => document.getElementById(id);
  const problem = byId("browser-problem");
  const packed = byId("sample-data").textContent;
  let lines;
  try {
    if (!packed) throw new Error("This page carries no samples.");
    lines = (await globalThis.unpack(packed)).trimEnd().split("\n").map((line) => JSON.parse(line));
  } catch (error) {
    problem.textContent = error.message;
    return;
  }
  const head = lines[0];
  const noPictures = lines.find((line) => "noPictures" in line)?.noPictures ?? "";
  const pictures = new Map(lines.filter((line) => line.picture).map((line) => [line.picture, line.data]));
  const samples = lines.filter((line) => line.runs);
  if (!samples.length) {
    problem.textContent = "This page carries no samples.";
    return;
  }
  problem.remove();
  byId("browser").hidden = false;

  // --- small builders
  function element(tag, className, text) {
    const made = document.createElement(tag);
    if (className) made.className = className;
    if (text !== undefined) made.textContent = text;
    return made;
  }
  function foreign(tag, className, text) {
    const made = element(tag, className, text);
    made.dir = "auto";
    return made;
  }
  function options(select, entries, chosen) {
    select.replaceChildren(...entries.map(([value, text]) => {
      const option = element("option", "", text);
      option.value = value;
      option.selected = value === chosen;
      return option;
    }));
  }
  const tones = { "flipped up": "good", "flipped down": "bad", stuck: "bad", failed: "open" };
  function tagsOf(sample) {
    const box = element("span", "tags");
    sample.tags.forEach((tag) => box.append(element("span", `tag ${tones[tag] ?? ""}`, tag)));
    return box;
  }
  const question = (sample) => sample.prompt.replaceAll("<image>", "").trim().replace(/\s+/g, " ");

  // --- filters
  const filters = { task: byId("filter-task"), category: byId("filter-category"), tag: byId("filter-tag"), text: byId("filter-text") };
  const unique = (values) => [...new Set(values)];
  const categoriesOf = (sample) => Object.entries(sample.category).map(([name, value]) => `${name}: ${value}`);
  samples.forEach((sample) => {
    sample.search = [sample.id, sample.prompt, sample.target, ...Object.values(sample.runs).flat().map((row) => `${row[0]}\n${row[1] ?? ""}`)]
      .join("\n").toLowerCase();
  });

  function fillTasks() {
    const tasks = unique(samples.map((sample) => sample.task)).sort();
    options(filters.task, [["", "all tasks"], ...tasks.map((task) => [task, task])], "");
  }
  function fillCategories() {
    const inTask = samples.filter((sample) => !filters.task.value || sample.task === filters.task.value);
    const categories = unique(inTask.flatMap(categoriesOf)).sort();
    const kept = categories.includes(filters.category.value) ? filters.category.value : "";
    options(filters.category, [["", "all categories"], ...categories.map((one) => [one, one])], kept);
  }
  function fillTags() {
    const tags = ["flipped", "flipped up", "flipped down", "stuck", "failed", "random"];
    const counted = tags.map((tag) => [tag, samples.filter((sample) => hasTag(sample, tag)).length]).filter(([, n]) => n);
    options(filters.tag, [["", "all samples"], ...counted.map(([tag, n]) => [tag, `${tag} (${n})`])], "");
  }
  function hasTag(sample, tag) {
    if (!tag) return true;
    if (tag === "random") return !sample.tags.length;
    return sample.tags.some((one) => one === tag || (tag === "flipped" && one.startsWith("flipped")));
  }
  function passing() {
    const wanted = filters.text.value.trim().toLowerCase();
    return samples.filter((sample) =>
      (!filters.task.value || sample.task === filters.task.value)
      && (!filters.category.value || categoriesOf(sample).includes(filters.category.value))
      && hasTag(sample, filters.tag.value)
      && (!wanted || sample.search.includes(wanted)));
  }

  // --- list
  const list = byId("sample-list");
  let current = null;
  function showList() {
    const found = passing();
    byId("filter-count").textContent = `${found.length} of ${samples.length} carried samples`;
    list.replaceChildren(...found.map((sample) => {
      const button = element("button");
      button.type = "button";
      button.append(foreign("span", "question", question(sample).slice(0, 160) || sample.id));
      button.append(element("small", "", `${sample.task} `), tagsOf(sample));
      button.addEventListener("click", () => select(sample, button));
      const item = element("li");
      item.append(button);
      return item;
    }));
    const place = found.indexOf(current);
    const first = list.querySelectorAll("button")[Math.max(place, 0)];
    if (first) select(found[Math.max(place, 0)], first);
    else byId("sample").replaceChildren(element("p", "count", "No sample passes these filters."));
  }
  list.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step) return;
    const buttons = [...list.querySelectorAll("button")];
    const next = buttons[buttons.indexOf(document.activeElement) + step];
    if (next) {
      event.preventDefault();
      next.focus();
      next.click();
    }
  });
  function select(sample, button) {
    current = sample;
    list.querySelectorAll('[aria-current="true"]').forEach((one) => one.removeAttribute("aria-current"));
    button.setAttribute("aria-current", "true");
    showSample(sample);
  }

  // --- one sample, two checkpoints side by side
  const sides = ["", ""];
  function showSample(sample) {
    const title = element("h3");
    title.append(foreign("bdi", "", sample.id), tagsOf(sample));
    const facts = foreign("p", "rule", [sample.task, ...categoriesOf(sample)].join(" · "));
    const asked = element("div", "asked");
    const box = element("div", "pictures");
    sample.images.forEach((digest, number) => box.append(picture(digest, number, sample)));
    if (sample.images.length) asked.append(box);
    asked.append(foreign("pre", "text", sample.prompt.trim()));
    const target = element("p", "", "Right answer: ");
    target.append(foreign("bdi", "verdict", sample.target));
    const columns = element("div", "sides");
    columns.append(...[0, 1].map((side) => column(sample, side)));
    byId("sample").replaceChildren(title, facts, asked, target, columns);
  }
  function picture(digest, number, sample) {
    const data = pictures.get(digest);
    if (!data) return element("p", "no-picture", `Image ${number + 1} is not shown. ${noPictures}`);
    const image = element("img");
    image.src = data;
    image.alt = `Image ${number + 1} of sample ${sample.id}`;
    return image;
  }
  function column(sample, side) {
    const there = Object.keys(sample.runs).map(Number).sort((one, other) => one - other);
    const wanted = head.checkpoints.indexOf(sides[side]);
    // What the user chose; else where the sample is telling; else the first and the last checkpoint.
    const telling = side === 1 ? sample.sides.at(-1) : sample.sides.length > 1 ? sample.sides[0] : undefined;
    const usual = telling ?? (side === 0 ? there[0] : there[there.length - 1]);
    const chosen = there.includes(wanted) ? wanted : usual;
    const made = element("section", "side");
    made.setAttribute("aria-label", side === 0 ? "First checkpoint" : "Second checkpoint");
    const choice = element("select");
    options(choice, there.map((number) => [String(number), head.checkpoints[number]]), String(chosen));
    const caption = element("label", "", "Checkpoint ");
    caption.append(choice);
    choice.addEventListener("change", () => {
      sides[side] = head.checkpoints[Number(choice.value)];
      const again = column(sample, side);
      made.replaceWith(again);
      again.querySelector("select").focus();
    });
    made.append(caption, ...grouped(sample.runs[chosen]).map(rollout));
    return made;
  }
  function grouped(rows) {
    const groups = new Map();
    rows.forEach((row, number) => {
      const key = JSON.stringify(row);
      groups.set(key, [...(groups.get(key) ?? []), number + 1]);
    });
    return [...groups].map(([key, numbers]) => [JSON.parse(key), numbers]);
  }
  function rollout([[response, answer, score, rule, reason, finish, tokens], numbers]) {
    const made = element("div", "rollout");
    const tone = score === null ? "open" : score >= 1 ? "good" : "bad";
    const said = score === null ? "no score" : score >= 1 ? "right" : score > 0 ? `${Math.round(100 * score)} %` : "wrong";
    const line = element("div");
    line.append(element("span", "", `${numbers.length > 1 ? "Rollouts" : "Rollout"} ${numbers.join(", ")}: `), element("span", `verdict ${tone}`, said));
    const why = [rule && `rule: ${rule}`, reason, finish !== "stop" && `ended by ${finish}`, tokens !== null && `${tokens} tokens`];
    made.append(line, foreign("div", "rule", why.filter(Boolean).join(" · ")), foreign("pre", "text", response || "(empty response)"));
    const extracted = element("div", "rule", answer === null ? "no answer extracted" : "extracted answer: ");
    if (answer !== null) extracted.append(foreign("bdi", "", answer));
    made.append(extracted);
    return made;
  }

  filters.task.addEventListener("change", () => { fillCategories(); showList(); });
  filters.category.addEventListener("change", showList);
  filters.tag.addEventListener("change", showList);
  filters.text.addEventListener("input", showList);
  document.querySelector(".filters").addEventListener("submit", (event) => event.preventDefault());
  fillTasks();
  fillCategories();
  fillTags();
  showList();
})();

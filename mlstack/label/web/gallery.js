// What is labeled already, as a wall of small pictures: a click brings one back to be corrected.

const PAGE = 48;
const $ = (id) => document.getElementById(id);

export class Gallery {
  // `ask` gives a page of items, `choose` is told which one was clicked.
  constructor(ask, choose) {
    this.ask = ask;
    this.choose = choose;
    this.turn = 0; // of the latest question; late answers to earlier ones are dropped
    $("which").addEventListener("change", () => this.fill());
    $("more").addEventListener("click", () => this.more());
    $("close").addEventListener("click", () => $("gallery").close());
  }

  get isOpen() {
    return $("gallery").open;
  }

  open(classes) {
    const chosen = $("which").value;
    const names = Object.keys(classes).filter((name) => classes[name] > 0);
    $("which").replaceChildren(
      new Option("all classes", ""),
      ...names.map((name) => new Option(`${name} (${classes[name].toLocaleString("en")})`, `=${name}`)),
    );
    $("which").value = chosen;
    if ($("which").selectedIndex < 0) $("which").value = "";
    $("gallery").showModal();
    this.fill();
  }

  // Come back from a picture: its new label is drawn, the wall stays where it was.
  reopen(item, label) {
    const tile = [...$("wall").children].find((each) => each.dataset.path === item.path);
    if (tile) {
      tile.querySelector("span").textContent = label;
      tile.firstElementChild.setAttribute("aria-label", `${item.path}: ${label}`);
    }
    $("gallery").showModal();
    tile?.firstElementChild.focus();
  }

  fill() {
    $("wall").replaceChildren();
    return this.more();
  }

  async more() {
    const turn = ++this.turn;
    const label = $("which").value.slice(1);
    const names = [...$("wall").querySelectorAll("span")].map((name) => name.textContent);
    // What was corrected away from this class stays on the wall, but not in the server's list.
    const query = { from: names.filter((name) => !label || name === label).length, n: PAGE };
    if (label) query.label = label;
    let content;
    try {
      content = await this.ask(query);
    } catch {
      $("found").textContent = "the server does not answer";
      return;
    }
    if (turn !== this.turn) return;
    const shown = query.from + content.items.length;
    $("found").textContent = `${shown.toLocaleString("en")} of ${content.total.toLocaleString("en")}`;
    $("more").hidden = shown >= content.total;
    $("wall").append(...content.items.map((item) => this.tile(item)));
  }

  tile(item) {
    const entry = document.createElement("li");
    const button = document.createElement("button");
    const image = document.createElement("img");
    const name = document.createElement("span");
    entry.dataset.path = item.path;
    image.src = `${item.image}?small=1`;
    image.alt = "";
    image.loading = "lazy";
    name.textContent = item.label;
    button.type = "button";
    button.title = item.path;
    button.setAttribute("aria-label", `${item.path}: ${item.label}`);
    button.addEventListener("click", () => {
      $("gallery").close();
      this.choose({ ...item, label: name.textContent });
    });
    button.append(image, name);
    entry.append(button);
    return entry;
  }
}

// The classes as buttons, and finding one by its name where there are more of them than keys: type a
// part of the name, Enter takes the best match.

const MANY = 10;
const $ = (id) => document.getElementById(id);

// Draw a button for each class; `choose` is called with its name.
export function drawClasses(classes, choose) {
  $("classes").replaceChildren(
    ...classes.map(({ name, keys }) => {
      const button = document.createElement("button");
      button.type = "button";
      button.dataset.label = button.title = name;
      button.setAttribute("aria-pressed", "false");
      button.innerHTML = '<kbd></kbd><span class="name"></span><span class="count"></span><span class="rail"><span class="share"></span></span>';
      button.querySelector("kbd").textContent = (keys[0] ?? "").toUpperCase();
      button.querySelector("kbd").classList.toggle("none", !keys.length);
      button.classList.toggle("own-key", keys[0] === name.toLowerCase()); // the name is the key
      const label = button.querySelector(".name");
      // The letter that works as a key is underlined in the name.
      const letterKey = name.length > 1 && keys.at(-1)?.match(/\p{L}/u)?.[0];
      const place = letterKey ? name.toLowerCase().indexOf(letterKey) : -1;
      if (place >= 0) {
        const letter = document.createElement("u");
        letter.textContent = name[place];
        label.append(name.slice(0, place), letter, name.slice(place + 1));
      } else label.textContent = name;
      button.addEventListener("click", () => choose(name));
      return button;
    }),
  );
  $("classes").dataset.many = String(classes.length > MANY);
}

export class Finder {
  // `choose` is called with the name of a class.
  constructor(choose) {
    this.choose = choose;
    this.best = null;
    this.isUseful = $("classes").children.length > MANY;
    $("find").hidden = !this.isUseful;
    $("find").addEventListener("input", () => this.filter());
    $("find").addEventListener("keydown", (event) => this.pressed(event));
  }

  filter() {
    const wanted = plain($("find").value.trim());
    const ranked = [];
    for (const button of $("classes").children) {
      const rank = rankOf(plain(button.dataset.label), wanted);
      button.hidden = rank < 0;
      button.classList.remove("best");
      if (wanted && rank >= 0) ranked.push({ button, rank });
    }
    ranked.sort((one, other) => one.rank - other.rank); // stable: equal ones stay in their order
    this.best = ranked[0]?.button ?? null;
    this.best?.classList.add("best");
    if (wanted) $("spoken").textContent = this.best ? `Enter takes ${this.best.dataset.label}` : "no such class";
    $("find").setAttribute("aria-invalid", String(Boolean(wanted) && !this.best));
  }

  clear() {
    $("find").value = "";
    this.filter();
  }

  pressed(event) {
    if (event.isComposing) return;
    if (event.key === "Escape") {
      this.clear();
      $("find").blur();
    } else if (event.key === "Enter" && this.best && !this.best.disabled && !event.repeat) {
      const { label } = this.best.dataset;
      this.clear();
      this.choose(label);
    }
  }
}

// 0: the name itself, 1: it begins so, 2: a word of it does, 3: somewhere in it, -1: not in it.
function rankOf(name, wanted) {
  if (name === wanted) return 0;
  const place = name.indexOf(wanted);
  if (place <= 0) return place < 0 ? -1 : 1;
  return /[\s_\-./]/.test(name[place - 1]) ? 2 : 3;
}

function plain(text) {
  return text.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase();
}

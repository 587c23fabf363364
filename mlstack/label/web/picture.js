// Pictures: fetched ahead, shown as large as the stage allows, small ones with crisp pixels.

const LARGEST = 48; // a digit of 8 x 8 pixels is harder to read when it fills the wall

const ahead = new Map(); // url -> { image, ready }

export function prefetch(url) {
  if (ahead.has(url)) return ahead.get(url);
  const image = new Image();
  image.decoding = "sync";
  image.draggable = false;
  image.alt = "";
  image.src = url;
  const entry = { image, ok: null };
  entry.ready = image.decode().then(
    () => (entry.ok = true),
    () => (entry.ok = false),
  );
  ahead.set(url, entry);
  if (ahead.size > 60) ahead.delete(ahead.keys().next().value);
  return entry;
}

export function forget(url) {
  ahead.delete(url);
}

// Give the picture the largest size that fits; whole multiples keep the pixels of small ones square.
export function fit(image, box) {
  const { naturalWidth: width, naturalHeight: height } = image;
  if (!width || !height) return;
  const room = Math.min(box.width / width, box.height / height);
  const scale = room >= 2 ? Math.min(Math.floor(room), LARGEST) : Math.min(room, 2);
  image.classList.toggle("crisp", scale >= 2);
  image.style.width = `${Math.max(1, Math.round(width * scale))}px`;
  image.style.height = `${Math.max(1, Math.round(height * scale))}px`;
}

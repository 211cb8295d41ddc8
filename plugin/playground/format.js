// Formats numbers for display.

export function number(value, digits = 3) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  if (value !== 0 && (Math.abs(value) >= 1e5 || Math.abs(value) < 1e-3)) return value.toExponential(1);
  return String(Number(value.toPrecision(digits)));
}

export const signed = (value, digits = 3) => (value > 0 ? "+" : "") + number(value, digits);

export const percent = (share) => `${number(100 * share, 2)}%`;

// The last part of a path or of an id on the model hub.
export const shortModel = (name) => String(name).split(/[\\/]/).filter(Boolean).at(-1) ?? String(name);

export const plural = (count, word) => `${count} ${word}${count === 1 ? "" : "s"}`;

// Numbers of layers as ranges: "3, 5–7".
export function ranges(numbers) {
  const sorted = [...numbers].sort((a, b) => a - b);
  const parts = [];
  for (let i = 0; i < sorted.length; i++) {
    const first = sorted[i];
    while (sorted[i + 1] === sorted[i] + 1) i++;
    parts.push(first === sorted[i] ? `${first}` : `${first}–${sorted[i]}`);
  }
  return parts.join(", ");
}

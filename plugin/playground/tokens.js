// Tokens with numbers: the text and colour of each. Pure functions.

const PART = "\ufffd";

// The part of `text` that belongs to each token, and the rest, which has no number yet. A server leaves out special
// tokens and blanks at the beginning of an answer, and several tokens may make one character.
export function alignTokens(tokens, text) {
  const pieces = [];
  let at = 0;
  for (let i = 0; i < tokens.length; i++) {
    const whole = tokens[i].token;
    const piece = at === 0 && !text.startsWith(whole) ? whole.trimStart() : whole;
    if (piece !== "" && text.startsWith(piece, at)) {
      pieces.push(piece);
      at += piece.length;
    } else if (whole.includes(PART)) {
      const last = lastPart(tokens, i);
      const next = tokens[last + 1]?.token;
      const end = next === undefined ? text.length : text.indexOf(next, at);
      pieces.push(text.slice(at, Math.max(at, end)));
      at = Math.max(at, end);
      for (; i < last; i++) pieces.push("");
    } else {
      pieces.push(piece);
    }
  }
  return { pieces, rest: text.slice(at) };
}

function lastPart(tokens, from) {
  let last = from;
  while (tokens[last + 1]?.token.includes(PART)) last++;
  return last;
}

const numbersOf = (tokens) => tokens.map(({ values }) => values[0]).filter((value) => Number.isFinite(value));
export const meanOf = (numbers) => (numbers.length ? numbers.reduce((a, b) => a + b, 0) / numbers.length : null);

// The readouts of an answer's generated tokens.
export const generatedNumbers = (answer) =>
  numbersOf((answer?.tokens ?? []).filter(({ phase }) => phase === "generation"));

// The share of the numbers that get graded colours; numbers farther out get the strongest one.
const COLOURED = 0.95;

// Centre and half width of the colours of two answers: around zero, or around the mean of the unsteered one. The very first
// token of a prompt, whose state is an outlier, does not count.
export function colourScale({ steered, unsteered }, centreKind, withPrompt) {
  const generated = [steered, unsteered].flatMap(generatedNumbers);
  const prompt = [steered, unsteered]
    .flatMap((answer) => answer?.tokens ?? [])
    .filter(({ phase, position }) => phase === "prompt" && position > 0);
  const all = withPrompt ? [...generated, ...numbersOf(prompt)] : generated;
  if (all.length === 0) return null;
  const reference = generatedNumbers(unsteered);
  const centre = centreKind === "zero" ? 0 : (meanOf(reference.length ? reference : all) ?? 0);
  const away = all.map((value) => Math.abs(value - centre)).sort((a, b) => a - b);
  const span = Math.max(away[Math.ceil(COLOURED * away.length) - 1], 1e-6);
  return { centre, span };
}

// The distance of a number from the centre, -1 to 1.
export const place = (value, { centre, span }) => Math.max(-1, Math.min(1, (value - centre) / span));

// From a program's value to JSON on one line, of the domain that every language reads alike.

import { encode } from "./frames.js";

const DEPTH_MAX = 64;
const INTEGER_MAX = 2 ** 53;
// Below it JavaScript writes a whole number as an integer, which other languages read as one.
const EXPONENT_FROM = 1e21;

const { stringify } = JSON;
const { isArray } = Array;
const { keys, getPrototypeOf } = Object;
const { isFinite, isInteger } = Number;
const { abs } = Math;
const ObjectPrototype = Object.prototype;

export class InvalidError extends Error {}
export class TooLargeError extends Error {}

export function encoded(value, bytesMax) {
  const data = stringify(copy(value, "", 0, { left: bytesMax }));
  // Only what may be too long in UTF-8 is measured.
  if (3 * data.length > bytesMax && encode(data).length > bytesMax) {
    throw new TooLargeError();
  }
  return data;
}

// Copies to plain objects and arrays and stops at the first thing that is not allowed. `left`
// bounds the work: a lower bound of the encoded size is taken off as we go.
function copy(value, path, depth, room) {
  room.left -= 1;
  switch (typeof value) {
    case "string":
      return text(value, room);
    case "boolean":
      return value;
    case "number":
      if (!isFinite(value)) throw new InvalidError(`${path || "/"}: number is not finite`);
      if (isInteger(value) && abs(value) > INTEGER_MAX && abs(value) < EXPONENT_FROM) {
        throw new InvalidError(`${path || "/"}: integer beyond 2**53`);
      }
      return value;
    case "object":
      break;
    case "undefined":
      throw new InvalidError(`${path || "/"}: undefined is not JSON`);
    default:
      throw new InvalidError(`${path || "/"}: a ${typeof value} is not JSON`);
  }
  if (value === null) return null;
  if (depth >= DEPTH_MAX) {
    throw new InvalidError(`${path.slice(0, 200)}: nested deeper than ${DEPTH_MAX}`);
  }
  if (room.left < 0) throw new TooLargeError();
  if (isArray(value)) {
    const found = [];
    const { length } = value;
    for (let index = 0; index < length; index++) {
      found[index] = copy(value[index], `${path}/${index}`, depth + 1, room);
    }
    return found;
  }
  const prototype = getPrototypeOf(value);
  // An object of another realm's or of none is plain as well; an instance of a class is not.
  if (prototype !== null && prototype !== ObjectPrototype) {
    throw new InvalidError(`${path || "/"}: a ${named(value)} is not JSON`);
  }
  const found = { __proto__: null };
  for (const key of keys(value)) {
    found[text(key, room)] = copy(
      value[key],
      `${path}/${key.slice(0, 100)}`,
      depth + 1,
      room,
    );
  }
  return found;
}

function text(value, room) {
  room.left -= value.length;
  if (room.left < 0) throw new TooLargeError();
  if (!value.isWellFormed()) throw new InvalidError("text has a lone surrogate");
  return value;
}

function named(value) {
  try {
    return String(value.constructor.name).slice(0, 100) || "nameless object";
  } catch {
    return "object";
  }
}

// The frames between host and cell, as in wire.py: one request in, the results of its items out.

export const LOAD = 0, REST = 2;
export const SUCCESS = 0, ERROR = 1, TIMEOUT = 2;
export const OUT_OF_MEMORY = 3, OUTPUT_TOO_LARGE = 4, INVALID_RESULT = 5;

const HEADER_BYTES = 12;
// Results are collected behind room for the header and for the widest head of an array.
const RESULTS_AT = HEADER_BYTES + 3;

// Kept from before the program, as everywhere here: it may put others in their place. What reads
// and writes memory goes by our own sizes, never by what a buffer says of itself.
const { min, max } = Math;
const { exit } = Deno;
const Bytes = Uint8Array, View = DataView, Room = ArrayBuffer, Large = BigInt;
const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
export const encode = encoder.encode.bind(encoder);
export const decode = decoder.decode.bind(decoder);
const encodeInto = encoder.encodeInto.bind(encoder);

let libc, fd, requestBytesMax;
let inRoom = new Room(64 * 1024), inBytes = 64 * 1024;
let inView = new View(inRoom);
let outRoom = new Room(64 * 1024), outBytes = 64 * 1024;
let outbox = new Bytes(outRoom);
let view = new View(outRoom);
let end = RESULTS_AT;

export function open(functions, descriptor, bytesMax) {
  [libc, fd, requestBytesMax] = [functions, descriptor, bytesMax];
}

// --- out --------------------------------------------------------------------------------------

export function size() {
  return end - RESULTS_AT;
}

// Forget what was written of a result after *kept* bytes.
export function cut(kept) {
  end = RESULTS_AT + kept;
}

function reserve(bytes) {
  if (end + bytes <= outBytes) return;
  const filled = new Bytes(outRoom, 0, end);
  outBytes = max(2 * outBytes, end + bytes);
  outRoom = new Room(outBytes);
  outbox = new Bytes(outRoom);
  outbox.set(filled);
  view = new View(outRoom);
}

// The head of a result with *fields* of them, of which the status is the first.
export function head(fields, status) {
  reserve(2);
  outbox[end++] = 0x90 | fields;
  outbox[end++] = status;
}

export function integer(value) {
  reserve(9);
  if (value < 0x80) {
    outbox[end++] = value;
  } else {
    outbox[end] = 0xce;
    view.setUint32(end + 1, min(value, 0xffff_ffff));
    end += 5;
  }
}

function counted(tag, text) {
  // A unit of UTF-16 takes three bytes of UTF-8 at most.
  reserve(5 + 3 * text.length);
  const { written } = encodeInto(text, new Bytes(outRoom, end + 5));
  outbox[end] = tag;
  view.setUint32(end + 1, written);
  end += 5 + written;
}

export const binary = (text) => counted(0xc6, text);
export const string = (text) => counted(0xdb, text);

export function send(nonce, count) {
  let start = RESULTS_AT;
  if (count < 0x10) {
    outbox[--start] = 0x90 | count;
  } else {
    start -= 3;
    outbox[start] = 0xdc;
    view.setUint16(start + 1, count);
  }
  const bytes = end - start;
  start -= HEADER_BYTES;
  view.setUint32(start, bytes, true);
  view.setBigUint64(start + 4, nonce, true);
  while (start < end) {
    const written = libc.write(fd, new Bytes(outRoom, start, end - start), Large(end - start));
    if (written < 0) exit(0);
    start += written;
  }
  end = RESULTS_AT;
}

// --- in ---------------------------------------------------------------------------------------

function receive(from, upTo) {
  while (from < upTo) {
    const room = inBytes - from;
    const got = libc.read(fd, new Bytes(inRoom, from, room), Large(room));
    if (got <= 0) exit(0); // the host has closed us
    from += got;
  }
  return from;
}

export function request() {
  const filled = receive(0, HEADER_BYTES);
  const bytes = inView.getUint32(0, true);
  const nonce = inView.getBigUint64(4, true);
  if (bytes > requestBytesMax) throw new Error("request too large");
  const total = HEADER_BYTES + bytes;
  if (total > inBytes) {
    const smaller = new Bytes(inRoom, 0, filled);
    inRoom = new Room(total);
    inBytes = total;
    inView = new View(inRoom);
    new Bytes(inRoom).set(smaller);
  }
  receive(filled, total);
  return { nonce, message: unpack(HEADER_BYTES) };
}

function unpack(at) {
  const slice = (bytes) => {
    at += bytes;
    return new Bytes(inRoom, at - bytes, bytes);
  };
  const elements = (count) => {
    const found = [];
    for (let index = 0; index < count; index++) found[index] = value();
    return found;
  };
  function value() {
    const tag = inView.getUint8(at++);
    if (tag < 0x80) return tag;
    if ((tag & 0xf0) === 0x90) return elements(tag & 0x0f);
    if ((tag & 0xe0) === 0xa0) return decode(slice(tag & 0x1f));
    switch (tag) {
      case 0xc4:
        return slice(inView.getUint8(at++));
      case 0xc5:
        at += 2;
        return slice(inView.getUint16(at - 2));
      case 0xc6:
        at += 4;
        return slice(inView.getUint32(at - 4));
      case 0xcb:
        at += 8;
        return inView.getFloat64(at - 8);
      case 0xcc:
        return inView.getUint8(at++);
      case 0xcd:
        at += 2;
        return inView.getUint16(at - 2);
      case 0xdc:
        at += 2;
        return elements(inView.getUint16(at - 2));
    }
    throw new Error(`type ${tag} is not of the subset`);
  }
  return value();
}

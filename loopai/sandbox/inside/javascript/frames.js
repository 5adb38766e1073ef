// The frames between host and cell, as in wire.py: one request in, the results of its items out.

export const LOAD = 0;
export const SUCCESS = 0, ERROR = 1, TIMEOUT = 2;
export const OUT_OF_MEMORY = 3, OUTPUT_TOO_LARGE = 4, INVALID_RESULT = 5;

const HEADER_BYTES = 12;
// Results are collected behind room for the header and for the widest head of an array.
const RESULTS_AT = HEADER_BYTES + 3;

// Kept from before the program, as everywhere here: it may put others in their place.
const { min, max } = Math;
const { exit } = Deno;
const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
export const encode = encoder.encode.bind(encoder);
export const decode = decoder.decode.bind(decoder);
const encodeInto = encoder.encodeInto.bind(encoder);

let libc, fd, requestBytesMax;
let inbox = new Uint8Array(64 * 1024);
let outbox = new Uint8Array(64 * 1024);
let view = new DataView(outbox.buffer);
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
  if (end + bytes <= outbox.length) return;
  const larger = new Uint8Array(max(2 * outbox.length, end + bytes));
  larger.set(outbox.subarray(0, end));
  outbox = larger;
  view = new DataView(outbox.buffer);
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
  const { written } = encodeInto(text, outbox.subarray(end + 5));
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
    const written = libc.write(fd, outbox.subarray(start, end), BigInt(end - start));
    if (written < 0) exit(0);
    start += written;
  }
  end = RESULTS_AT;
}

// --- in ---------------------------------------------------------------------------------------

function receive(into, from, upTo) {
  while (from < upTo) {
    const size = libc.read(fd, into.subarray(from), BigInt(into.length - from));
    if (size <= 0) exit(0); // the host has closed us
    from += size;
  }
  return from;
}

export function request() {
  const filled = receive(inbox, 0, HEADER_BYTES);
  const head = new DataView(inbox.buffer, 0, HEADER_BYTES);
  const size = head.getUint32(0, true);
  const nonce = head.getBigUint64(4, true);
  if (size > requestBytesMax) throw new Error("request too large");
  const total = HEADER_BYTES + size;
  if (total > inbox.length) {
    const larger = new Uint8Array(total);
    larger.set(inbox.subarray(0, filled));
    inbox = larger;
  }
  receive(inbox, filled, total);
  return { nonce, message: unpack(inbox.subarray(HEADER_BYTES, total)) };
}

function unpack(data) {
  const bytes = new DataView(data.buffer, data.byteOffset, data.length);
  let at = 0;
  const slice = (size) => data.subarray(at, at += size);
  const elements = (size) => {
    const found = [];
    for (let index = 0; index < size; index++) found.push(value());
    return found;
  };
  function value() {
    const tag = data[at++];
    if (tag < 0x80) return tag;
    if ((tag & 0xf0) === 0x90) return elements(tag & 0x0f);
    if ((tag & 0xe0) === 0xa0) return decode(slice(tag & 0x1f));
    switch (tag) {
      case 0xc4:
        return slice(data[at++]);
      case 0xc5:
        at += 2;
        return slice(bytes.getUint16(at - 2));
      case 0xc6:
        at += 4;
        return slice(bytes.getUint32(at - 4));
      case 0xcb:
        at += 8;
        return bytes.getFloat64(at - 8);
      case 0xcc:
        return data[at++];
      case 0xcd:
        at += 2;
        return bytes.getUint16(at - 2);
      case 0xdc:
        at += 2;
        return elements(bytes.getUint16(at - 2));
    }
    throw new Error(`type ${tag} is not of the subset`);
  }
  return value();
}

"use strict";
(() => {
const D = JSON.parse(document.getElementById("data").textContent);
const COMPACTED = 1n << 63n, X87 = 1n, SSE = 2n, ALL = (1n << 64n) - 1n;

// --- what a model is -----------------------------------------------------------------------------

function leaves(fields, base = 0, prefix = "", title = "") {
  const found = [];
  for (const f of fields) {
    for (let i = 0; i < (f.count ?? 1); i++) {
      const path = prefix + f.name + (f.count === undefined ? "" : `[${i}]`);
      const offset = base + f.offset + i * (f.stride ?? 0);
      if (f.fields) found.push(...leaves(f.fields, offset, path + ".", f.title ?? title));
      else found.push({path, offset, size: f.size, raw: f.raw, initial: BigInt(f.initial ?? 0),
        title: f.title ?? title, bits: f.bits ?? []});
    }
  }
  return found;
}

for (const c of D.components) {
  c.bit = 1n << BigInt(c.number);
  c.legacy = c.number < 2;
  c.reach = (c.legacy ? c.offset : 0) + c.size;
  c.leaves = leaves(D.fields[c.fields]).filter(leaf => leaf.offset + leaf.size <= c.reach);
  c.sorted = [...c.leaves].sort((a, b) => a.offset - b.offset);
}
const MODELS = new Map(D.models.map(m => [m.name, m]));
for (const m of D.models) {
  m.components = m.components.map(at => D.components[at]);
  m.by = new Map(m.components.map(c => [c.number, c]));
  m.registers = D.registers[m.registers];
  for (const key of ["xcr0", "xss", "mxcsr_mask"]) m[key] = BigInt(m[key]);
  const sum = found => found.reduce((mask, c) => mask | c.bit, 0n);
  m.user = sum(m.components.filter(c => !c.supervisor));
  m.supervisor = sum(m.components.filter(c => c.supervisor));
}

const NAMES = new Map(D.components.map(c => [c.number, c.name]));
const hex = mask => "0x" + mask.toString(16).toUpperCase();
const numbers = mask => [...Array(64).keys()].filter(n => mask >> BigInt(n) & 1n);
const nameOf = (m, n) => m.by.get(n)?.name ?? (n === 63 ? "bit 63" : `component${n}`);
const names = (m, mask, most = 64) =>
  numbers(mask).length > most ? hex(mask) : numbers(mask).map(n => nameOf(m, n)).join(", ");
const compacts = m => m.instructions.includes("xsavec") || m.instructions.includes("xsaves");
const of = (m, mask) => m.components.filter(c => c.bit & mask);

// --- where everything is -------------------------------------------------------------------------

function layout(m, format, mask, slots) {
  slots.sort((a, b) => a.offset - b.offset || a.c.number - b.c.number);
  const size = Math.max(D.extended, ...slots.map(slot => slot.end));
  return {m, format, mask, slots, size, xcomp: format === "compacted" ? mask | COMPACTED : 0n};
}

const slot = (c, offset) => ({c, offset, end: offset + c.size});

function standard(m, mask) {
  return layout(m, "standard", mask, of(m, mask).map(c => slot(c, c.offset)));
}

function compacted(m, mask) {
  let end = D.extended;
  return layout(m, "compacted", mask, of(m, mask).map(c => {
    if (c.legacy) return slot(c, c.offset);
    if (c.align64) end = Math.ceil(end / 64) * 64;
    const found = slot(c, end);
    end = found.end;
    return found;
  }));
}

function overlap(slots) {
  let last = null;
  for (const s of slots) {
    if (last && s.offset < last.end) {
      const both = [last, s].map(e => `${e.c.name} [0x${e.offset.toString(16)}..0x${e.end.toString(16)})`);
      return `${both.join(" and ")} overlap`;
    }
    if (!last || s.end > last.end) last = s;
  }
  return null;
}

// Every byte once, in memory order: what it is. alive: a bit of XSTATE_BV, or 0 for always.
function spans(lay) {
  const found = [], [mxcsr, mxcsrEnd] = D.mxcsr;
  const plain = (offset, end, kind, path = "") =>
    ({offset, end, kind, path, c: null, alive: 0n, leaf: null});
  const pieces = (c, origin, start, end, alive) => {
    const piece = (offset, to, kind, path, leaf) =>
      found.push({offset, end: to, kind, path, c, alive, leaf});
    if (!c.leaves.length) return piece(start, end, "field", c.name, null);
    for (const leaf of c.sorted) {
      const at = origin + leaf.offset;
      if (at < start || at >= end) continue;
      if (at > start) piece(start, at, "reserved", c.name, null);
      start = at + leaf.size;
      piece(at, start, "field", `${c.name}.${leaf.path}`, leaf);
    }
    if (start < end) piece(start, end, "reserved", c.name, null);
  };
  found.push(plain(D.software, D.xcr0, "reserved"), plain(D.xcr0, D.header, "software"),
    plain(D.header, D.header + 8, "header", "header.xstate_bv"),
    plain(D.header + 8, D.header + 16, "header", "header.xcomp_bv"),
    plain(D.header + 16, D.extended, "header"));
  for (const {c, offset, end} of lay.slots) {
    const ranges = c.number ? [[offset, end]] : [[0, mxcsr], [mxcsrEnd, end]];
    for (const [from, to] of ranges) pieces(c, c.legacy ? 0 : offset, from, to, c.bit);
  }
  if (lay.format === "standard" || lay.mask & SSE)
    pieces(lay.m.by.get(1), 0, mxcsr, mxcsrEnd, lay.format === "standard" ? 0n : SSE);
  found.sort((a, b) => a.offset - b.offset);
  const whole = [];
  let end = 0;
  for (const span of found) {
    if (span.offset > end)
      whole.push(plain(end, span.offset, lay.xcomp && end >= D.extended ? "padding" : "gap"));
    whole.push(span);
    end = span.end;
  }
  return whole;
}

const lives = (span, mask) => !span.alive || (span.alive & mask) !== 0n;

function says(span) {
  const other = {software: "left to software", padding: "padding before a multiple of 64"};
  const what = span.kind === "field" ? span.path
    : span.kind === "header" ? span.path || "header, reserved"
    : span.c ? `${span.path}, reserved` : other[span.kind] ?? span.kind;
  const size = span.end - span.offset;
  const said = `${span.offset}..${span.end - 1}: ${what}, ${size} byte${size > 1 ? "s" : ""}`;
  if (!span.c) return said;
  const bit = numbers(span.alive)[0];
  let alive = span.alive ? `alive with XSTATE_BV[${bit}]` : "always alive";
  const initial = span.leaf?.initial ?? 0n;
  if (span.kind === "field" && (!initial || size <= 8)) alive += `; initially 0x${initial.toString(16)}`;
  return `${said}; ${alive}`;
}

// --- which masks are legal -----------------------------------------------------------------------

// Why a processor refuses an XCR0; null for one that it takes.
function refusal(m, xcr0) {
  const alien = xcr0 & ~m.user;
  if (alien) {
    const why = alien & ~m.supervisor ? "are unknown"
      : "are supervisor components, which IA32_XSS enables";
    return `bits ${hex(alien)} (${names(m, alien)}) ${why}`;
  }
  const clash = overlap(standard(m, xcr0).slots);
  if (clash) return clash;
  if (!(xcr0 & X87)) return "bit 0 (x87) must be set";
  const enabled = new Set(of(m, xcr0).map(c => c.name)), users = of(m, m.user);
  const without = (there, missing) => `${there.join(" and ")} without ${missing.join(" and ")}`;
  for (const c of users) {
    const group = [c.name, ...c.together], there = group.filter(name => enabled.has(name));
    if (there.length && there.length < group.length)
      return without(there, group.filter(name => !enabled.has(name)));
  }
  for (const c of users) {
    const missing = c.needs.filter(name => !enabled.has(name));
    if (enabled.has(c.name) && missing.length) return without([c.name], missing);
  }
  return null;
}

function refusedXss(m, xss) {
  const alien = xss & ~m.supervisor;
  return alien ? `${m.name} has no supervisor component ${names(m, alien)}` : null;
}

function refusedXcomp(m, xcr0, xss, mask) {
  const alien = mask & ~(m.user | m.supervisor), beyond = mask & ~(xcr0 | xss);
  if (alien) return `${m.name} knows nothing of ${names(m, alien)} (bits ${hex(alien)})`;
  if (!compacts(m))
    return `${m.name} has no XSAVEC: it neither writes nor takes the compacted format`;
  if (beyond) return `${names(m, beyond)} not in XCR0 or IA32_XSS. ${D.rules["xcomp-bv-xcr0"]}`;
  return null;
}

// --- two models ----------------------------------------------------------------------------------

function compare(a, onA, b, onB) {
  return numbers(onA | onB).map(n => {
    const x = a.by.get(n), y = b.by.get(n);
    const bit = 1n << BigInt(n), row = {number: n, name: (x ?? y).name, x, y, lost: [], lossy: false};
    if (!x || !(onA & bit)) return {...row, state: "new"};
    if (!y || !(onB & bit)) return {...row, state: "lost", lossy: true};
    if (x.size === y.size) return {...row, state: x.offset === y.offset ? "same" : "moved"};
    const places = new Map(y.leaves.map(leaf => [leaf.path, leaf]));
    const kept = x.leaves.filter(leaf => places.get(leaf.path)?.size === leaf.size);
    const lost = x.leaves.filter(leaf => !kept.includes(leaf)).map(leaf => leaf.path);
    const unplaced = x.size - kept.reduce((sum, leaf) => sum + leaf.size, 0);
    return {...row, state: "resized", lost, unplaced,
      lossy: x.leaves.length ? lost.length > 0 : unplaced !== 0};
  });
}

// --- an area -------------------------------------------------------------------------------------

const word = (bytes, at) => bytes.slice(at, at + 8).reduceRight((sum, b) => sum << 8n | BigInt(b), 0n);

// What the header says of a buffer: a layout, and every fault. Judged as the package judges it.
function judge(m, bytes) {
  const xstate = word(bytes, D.header), xcomp = word(bytes, D.header + 8), length = bytes.length;
  const known = m.user | m.supervisor, faults = [];
  const inUse = `XSTATE_BV ${hex(xstate)}`, places = `XCOMP_BV ${hex(xcomp)}`;
  const unknown = (what, mask) =>
    faults.push(`${what} has bits that ${m.name} does not know: ${names(m, mask, 4)}`);
  if (xstate & ~known) unknown(inUse, xstate & ~known);
  let lay;
  if (xcomp & COMPACTED) {
    let mask = xcomp & ~COMPACTED;
    const alien = mask & ~known;
    if (alien) {
      unknown(places, alien);
      mask &= (alien & -alien) - 1n; // behind a component of unknown size no place is sure
    }
    const outside = xstate & ~xcomp & known;
    if (outside) faults.push(`${inUse} has ${names(m, outside)}, which have no place by ${places}`);
    lay = compacted(m, mask);
  } else {
    if (xcomp) faults.push(`${places} is neither 0 (standard format) nor has it bit 63 (compacted format)`);
    const hidden = xstate & m.supervisor, live = xstate & m.user;
    if (hidden) faults.push(`${inUse} has ${names(m, hidden)}: the standard format has no place for supervisor components`);
    lay = standard(m, m.xcr0 | live);
    if (overlap(lay.slots)) {
      lay = standard(m, live | X87 | SSE);
      const clash = overlap(lay.slots);
      if (clash) {
        faults.push(`both are in use: ${clash}`);
        const alone = lay.slots.filter(s => !lay.slots.some(o => o !== s && s.offset < o.end && o.offset < s.end));
        lay = standard(m, alone.reduce((mask, s) => mask | s.c.bit, 0n));
      }
    }
  }
  const wanted = lay.format === "compacted" ? lay.mask : lay.mask & xstate;
  const cut = lay.slots.find(s => s.c.bit & wanted && s.end > length);
  if (cut) faults.push(`the area has ${length} bytes, but its ${cut.c.name} stands at ${cut.offset}..${cut.end}`);
  const dirty = (from, to) => bytes.slice(D.header + from, D.header + to).some(b => b);
  const restore = []; // XSAVEC leaves such bytes as they were: state is where it is, all the same
  if (xcomp & COMPACTED && !compacts(m)) restore.push(D.rules["xcomp-bv-no-xsavec"]);
  if (dirty(16, 24)) restore.push(D.rules["header-16-23"]);
  if (xcomp & COMPACTED && dirty(24, 64)) restore.push(D.rules["header-24-63"]);
  const loads = !(xcomp & COMPACTED) || xstate & SSE, mxcsr = word(bytes, D.mxcsr[0]) & 0xFFFFFFFFn;
  if (loads && mxcsr & ~m.mxcsr_mask) restore.push(D.rules.mxcsr);
  const fits = lay.slots.filter(s => s.end <= length).reduce((mask, s) => mask | s.c.bit, 0n);
  const cutOff = names(m, lay.mask & ~fits & xstate);
  lay = lay.format === "compacted" ? layout(m, "compacted", fits, lay.slots.filter(s => s.end <= length)) : standard(m, fits);
  return {m, lay, xstate, xcomp, faults, restore, cutOff};
}

// What its writer left in a standard area: the mask of its system, or a signal frame's words.
function shownIn(m, bytes, xstate) {
  const at = D.xcr0, u32 = where => Number(word(bytes, where) & 0xFFFFFFFFn);
  const empty = from => !bytes.slice(from, D.header).some(Boolean);
  let seen = {mask: word(bytes, at), at, size: null};
  if (u32(at) === D.signal.magic1) {
    seen = {mask: word(bytes, at + 8), at: at + 8, size: u32(at + 16)};
    const {mask, size} = seen, ends = size === bytes.length || (size + 4 <= bytes.length && u32(size) === D.signal.magic2);
    return size >= D.extended && ends && D.signal.behind.includes(u32(at + 4) - size) && (mask & 3n) === 3n
      && !(mask >> 63n) && empty(at + 20) ? seen : null;
  }
  const alien = seen.mask & ~(m.user | BigInt(D.user_components));
  return (seen.mask & 3n) === 3n && !alien && !(xstate & ~seen.mask) && empty(at + 8) ? seen : null;
}

// What an area says against a model as its writer, for sure and by hints, as the package judges it.
function evidence(m, bytes) {
  const xstate = word(bytes, D.header), xcomp = word(bytes, D.header + 8), against = [], hints = [];
  const own = m.mxcsr_mask, its = word(bytes, D.mxcsr[0] + 4) & 0xFFFFFFFFn;
  const stored = its === own || D.mxcsr_masks.map(BigInt).includes(its);
  const kvm = bytes.length === D.kvm && !(xcomp & COMPACTED) && !bytes.slice(D.header + 8, D.extended).some(Boolean);
  const seen = xcomp & COMPACTED ? null : shownIn(m, bytes, xstate), mask = seen?.mask ?? m.xcr0;
  const alien = mask & ~m.user, overlaps = overlap(standard(m, mask).slots), size = standard(m, mask).size;
  const length = seen?.size ?? bytes.length;
  if (seen && kvm) {
    const common = standard(m, mask & m.user).slots, alike = o => !(mask & ~o.user)
      && common.every(({c}) => o.by.get(c.number)?.offset === c.offset && o.by.get(c.number).size === c.size);
    if (alien && !D.models.some(alike)) against.push(`byte ${seen.at} has the mask ${hex(mask)} of KVM's host, and no CPU with `
      + `these components lays them out as ${m.name} does`);
  } else if (seen) {
    const what = `byte ${seen.at} has the mask ${hex(mask)} of the components that the `
      + (seen.size === null ? "writer's system had enabled" : "signal frame holds");
    if (alien) against.push(`${what}, and ${m.name} has no ${numbers(alien).map(n => NAMES.get(n) ?? nameOf(m, n)).join(", ")}`);
    else if (overlaps) against.push(`${what}, and on ${m.name} they share bytes`);
    else if (seen.size !== null && seen.size !== size) against.push(`${what} in ${seen.size} bytes; ${m.name} takes ${size} for them`);
  }
  if (stored && its & ~own) against.push(`MXCSR_MASK is ${hex(its)}, with bits ${hex(its & ~own)} that ${m.name}'s ${hex(own)} lacks`);
  if (!kvm && !(xcomp & COMPACTED) && !alien && !overlaps && size !== length) hints.push(`the area has ${length} bytes; ${m.name} `
    + `takes ${size} for ${seen ? `the mask ${hex(mask)} at byte ${seen.at}` : `XCR0 ${hex(mask)}`}`);
  if (!kvm && its && stored && its !== own)
    hints.push(`MXCSR_MASK is ${hex(its)}, ${m.name}'s own is ${hex(own)}: an emulated CPU may have written this`);
  return {against, hints};
}

// What each field means: what stands there while it is alive, its initial value otherwise.
function values(bytes, {lay, xstate}) {
  const found = new Map();
  for (const span of spans(lay)) {
    if (span.kind !== "field") continue;
    const live = lives(span, xstate);
    let value = bytes.slice(span.offset, span.end);
    if (!live) {
      const initial = span.leaf?.initial ?? 0n;
      value = value.map((_, i) => Number(initial >> BigInt(8 * i) & 255n));
    }
    found.set(span.path, {bytes: value, live, c: span.c, span});
  }
  return found;
}

// A number's digits, or bytes in memory order, where a field is no number (a tile).
const pair = b => b.toString(16).padStart(2, "0");
const digits = bytes => [...bytes].reverse().map(pair).join("");
const shown = r => r.raw ? [...r.bytes].map(pair).join(" ") : `0x${digits(r.bytes)}`;

// Whole registers, the widest of those that share their bytes, then the fields that are none.
function registers(m, fields) {
  const found = [], used = new Set();
  for (const [name, pieces] of m.registers) {
    const parts = pieces.map(([c, path]) => fields.get(`${c}.${path}`));
    if (!parts.every(Boolean)) continue;
    const bytes = parts.flatMap((part, i) => {
      const [, , start, size] = pieces[i];
      return [...part.bytes.slice(start, size ? start + size : undefined)];
    });
    const raw = parts.some(part => part.span.leaf?.raw);
    found.push({name, bytes, raw, live: parts.some(part => part.live), paths: pieces.map(([c, p]) => `${c}.${p}`)});
  }
  const widest = found.filter(r => !found.some(o => o.bytes.length > r.bytes.length
    && r.paths.every(path => o.paths.includes(path))));
  for (const r of widest) r.paths.forEach(path => used.add(path));
  for (const [path, field] of fields)
    if (!used.has(path)) widest.push({name: path, bytes: [...field.bytes], raw: field.span.leaf?.raw ?? !field.span.leaf,
      live: field.live, paths: [path]});
  return widest;
}

// Bytes as people paste them: digits, or the lines of xxd, hexdump -C, od -t x1 and debuggers. Throws
// what is wrong, and where numbers are shown: the lowest byte of those comes first in memory.
const NUMBERS = "these are numbers, not bytes in memory order; single bytes are wanted: xxd -g1, od -v -t x1, x/576xb";

function fromHex(text) {
  const lines = text.split("\n").filter(line => line.trim()), counted = hasOffsets(lines);
  let all = "", first = null;
  for (const line of lines) {
    const at = addressOf(line, counted)?.match(/^\s*(?:0x)?([0-9a-f]+)/i)[1];
    first ??= at;
    if (at && ![16, 8, 10].some(base => distance(first, at, base) === BigInt(all.length / 2)))
      throw new Error(`the address ${at} does not follow the ${all.length / 2} bytes before it: is a line missing?`);
    all += bytesOfLine(line, counted).replace(/[\s,]/g, "");
    if (all.length % 2) break; // told below
  }
  const wrong = all.match(/[^0-9a-f]/i);
  if (wrong) throw new Error(`${JSON.stringify(wrong[0])} is no hexadecimal digit`);
  if (all.length % 2) throw new Error("an odd number of digits");
  if (all.length / 2 > D.max_area) throw new Error("too long for an area");
  return Uint8Array.from(all.match(/../g) ?? [], pair => parseInt(pair, 16));
}

// Whether lines begin with offsets that no colon ends: the second is as much further as the first is long.
function hasOffsets(lines) {
  const [one, two] = lines.map(line => line.replace(/\s(?:\|.*\||>.*<)\s*$/, "").trim().split(/\s+/));
  if (!two || !/^[0-9a-f]{6,16}$/i.test(one[0]) || one[0].length !== two[0].length) return false;
  const size = one.slice(1).join("").length / 2;
  return two[0] === "*" || [8, 10, 16].some(base => parseInt(two[0], base) - parseInt(one[0], base) === size);
}

// A line's address as it stands there; the first one's base is only known by those that follow.
const addressOf = (line, counted) =>
  line.match(counted ? /^\s*[0-9a-f]+(?=\s|$)/i : /^\s*(?:0x)?[0-9a-f]+(?:\s<[^>]*>)?:/i)?.[0];

function distance(from, to, base) {
  const prefix = {16: "0x", 8: "0o", 10: ""}[base], fits = {16: /./, 8: /^[0-7]+$/, 10: /^[0-9]+$/}[base];
  return [from, to].every(each => fits.test(each)) ? BigInt(prefix + to) - BigInt(prefix + from) : null;
}

function bytesOfLine(line, counted) {
  if (line.trim() === "*") throw new Error("* stands for lines that are left out: hexdump -vC and od -v -t x1 show all");
  const at = addressOf(line, counted);
  const bare = line.slice(at?.length ?? 0).replace(counted ? /\s(?:\|.*\||>.*<)\s*$/ : /\s\|.*\|\s*$/, "");
  const bytes = at && !counted ? withoutText(bare) : bare, groups = bytes.trim().split(/[\s,]+/);
  const wide = counted ? 3 : at && bytes === bare ? 8 : 17;
  if (groups.some(each => /^0x[0-9a-f]{3,16}$/i.test(each) || (each.length >= wide && wide < 17))) throw new Error(NUMBERS);
  const digits = groups.map(each => each.replace(/^0x/i, "")), odd = digits.find(each => each.length % 2);
  if (odd && digits.length > 1 && /^[0-9a-f]+$/i.test(odd)) throw new Error(`an odd number of digits: ${odd.slice(0, 20)}`);
  return digits.join("");
}

// A line's bytes without the text behind them that shows the same bytes.
function withoutText(line) {
  const [whole, hexadecimal, gap] = line.match(/^\s*((?:[0-9a-f]{2})+(?:\s(?:[0-9a-f]{2})+)*)(\s{2,}(?=\S))/i) ?? [];
  if (!gap) return line;
  const bytes = hexadecimal.match(/[0-9a-f]{2}/gi).map(each => parseInt(each, 16)), text = line.slice(whole.length);
  if (text.length > bytes.length) return line;
  const shown = bytes.map(b => b > 31 && b < 127 ? String.fromCharCode(b) : ".").join("");
  if ((gap + text).endsWith(shown)) return hexadecimal;
  if (!/[^0-9a-f\s]/i.test(text)) return line;
  if (text.length === bytes.length) throw new Error(NUMBERS);
  return hexadecimal;
}

// --- elements: text is only ever text ------------------------------------------------------------

const $ = id => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";

function fill(node, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (value === true) node.setAttribute(key, "");
    else if (value !== false && value !== null && value !== undefined) node.setAttribute(key, value);
  }
  node.append(...children.flat().filter(child => child !== null && child !== undefined));
  return node;
}

const el = (tag, attributes = {}, ...children) => fill(document.createElement(tag), attributes, children);
const sv = (tag, attributes = {}, ...children) =>
  fill(document.createElementNS(SVG, tag), attributes, children);
const show = (id, ...children) => $(id).replaceChildren(...children.flat().filter(Boolean));

const colourOf = n => D.palette[n % D.palette.length];
const colour = span => span.c ? colourOf(span.c.number) : D.frame[span.kind] ?? `url(#xs-${span.kind})`;
const swatch = n => sv("svg", {class: "swatch", viewBox: "0 0 8 8", "aria-hidden": "true"},
  sv("rect", {width: 8, height: 8, rx: 1, fill: colourOf(n)}));

const LEFT = 52, HEIGHT = 26, STEP = 32, WIDTH = 960;
const part = x => Math.round(x * 1000) / 1000;

// What stands on a stretch of the picture: MXCSR as the x87 state around it.
function block(span) {
  if (!span.c) return span.kind === "reserved" && span.end <= D.header ? "software" : span.kind;
  return span.c.number === 1 && span.offset < span.c.offset ? "x87" : span.c.name;
}

function patterns() {
  const pattern = (id, d) => sv("pattern", {id: `xs-${id}`, width: 6, height: 6, patternUnits: "userSpaceOnUse"},
    sv("path", {d, stroke: "#80868b", "stroke-width": .8}));
  return sv("svg", {width: 0, height: 0, class: "swatch", "aria-hidden": "true"},
    sv("defs", {}, pattern("gap", "M0 6L6 0"), pattern("padding", "M0 0L6 6M0 6L6 0")));
}

// The rectangles of a layout: rows of `row` bytes from `top` down, as the package draws them.
function draw(found, row, scale, top, inUse = -1n) {
  const parts = [], place = at => [LEFT + at % row * scale, top + Math.floor(at / row) * STEP];
  let shade = 0, label = null;
  const labels = [];
  for (const span of found) {
    if (span.kind === "field") shade = 1 - shade;
    let opacity = span.kind === "reserved" && span.c ? .4 : 1 - .2 * shade;
    if (!lives(span, inUse)) opacity *= .3;
    for (let at = span.offset; at < span.end;) {
      const to = Math.min(span.end, at - at % row + row), [x, y] = place(at);
      const rect = sv("rect", {"data-offset": at, "data-size": to - at, "data-kind": span.kind,
        x: part(x), y, width: part((to - at) * scale), height: HEIGHT, fill: colour(span),
        "fill-opacity": span.c && opacity < 1 ? part(opacity) : null});
      rect.span = span;
      parts.push(rect);
      const name = block(span);
      if (label && label.name === name && label.y === y) label.end = x + (to - at) * scale;
      else labels.push(label = {name, x, y, end: x + (to - at) * scale, kind: span.kind});
      at = to;
    }
  }
  for (const {name, x, y, end, kind} of labels)
    if (name.length * 6.4 + 8 <= end - x)
      parts.push(sv("text", {x: part((x + end) / 2), y: y + 17, "text-anchor": "middle",
        class: kind === "gap" || kind === "padding" ? null : "in"}, name));
  return parts;
}

function tell(span, note = "") {
  const title = span.leaf?.title || (span.c ? span.c.title : "");
  const bits = (span.leaf?.bits ?? []).map(([name, low, width]) =>
    `${name} ${width > 1 ? `${low + width - 1}:${low}` : low}`);
  $("readout").textContent = says(span) + (title ? ` – ${title}` : "")
    + (bits.length ? ` – bits: ${bits.join(", ")}` : "") + note;
}

// Rows of a length at which names can be read.
function fitting() {
  const room = $("main").clientWidth;
  if (room > 700) return {row: 1024, scale: .875, width: WIDTH};
  return room > 460 ? {row: 512, scale: 1, width: 576} : {row: 256, scale: 1.2, width: 368};
}

function map(lay, name, inUse) {
  const found = spans(lay), {row, scale, width} = fitting(), rows = Math.ceil(lay.size / row);
  const picture = sv("svg", {viewBox: `0 0 ${width} ${rows * STEP}`, role: "group", tabindex: 0,
    "aria-label": `${name}: ${lay.size} bytes. Arrow keys walk through the bytes, up and down by component.`});
  for (let i = 0; i < rows; i++)
    picture.append(sv("text", {x: LEFT - 8, y: i * STEP + 17, "text-anchor": "end"}, String(i * row)));
  picture.append(...draw(found, row, scale, 0, inUse));
  let at = 0;
  const go = to => {
    at = Math.max(0, Math.min(found.length - 1, to));
    const span = found[at];
    picture.querySelectorAll(".at").forEach(each => each.remove());
    picture.querySelectorAll("rect").forEach(rect => {
      if (rect.span !== span) return;
      const frame = {class: "at"};
      for (const key of ["x", "y", "width", "height"]) frame[key] = rect.getAttribute(key);
      picture.append(sv("rect", frame));
    });
    tell(span);
  };
  const other = step => {
    let to = at;
    while (found[to + step] && block(found[to]) === block(found[at])) to += step;
    return to;
  };
  fill(picture, {
    onkeydown: event => {
      const keys = {ArrowRight: () => at + 1, ArrowLeft: () => at - 1, ArrowDown: () => other(1),
        ArrowUp: () => other(-1), Home: () => 0, End: () => found.length - 1};
      if (event.key === "Enter" && found[at].c) return zoom(lay, found[at].c.number);
      if (!keys[event.key]) return;
      event.preventDefault();
      go(keys[event.key]());
    },
    onfocus: () => picture.matches(":focus-visible") && go(at),
    onpointermove: ({target}) => target.span && found[at] !== target.span && go(found.indexOf(target.span)),
    onpointerdown: ({target}) => target.span && go(found.indexOf(target.span)),
    onclick: ({target}) => { if (target.span?.c) zoom(lay, target.span.c.number); },
  }, []);
  return picture;
}

// One component, as wide as the page, and the bits of its fields.
function zoom(lay, number) {
  const s = lay.slots.find(each => each.c.number === number);
  if (!s) return;
  const found = spans(lay).filter(span => span.c === s.c), size = s.end - s.offset;
  const own = found.filter(span => span.offset >= s.offset);
  const scale = (WIDTH - 12) / size;
  const picture = sv("svg", {viewBox: `0 0 ${WIDTH} ${HEIGHT + 4}`, role: "img",
    "aria-label": `${s.c.name}, ${size} bytes at ${s.offset}`});
  for (const [i, span] of own.entries()) {
    const x = (span.offset - s.offset) * scale, width = (span.end - span.offset) * scale;
    const rect = sv("rect", {x: part(x), y: 0, width: part(width), height: HEIGHT, fill: colour(span),
      "fill-opacity": span.kind === "reserved" ? .4 : 1 - .25 * (i % 2),
      onpointermove: () => tell(span)});
    picture.append(rect);
    const name = span.leaf ? span.leaf.path : "";
    if (name && name.length * 6.4 + 6 <= width)
      picture.append(sv("text", {x: part(x + width / 2), y: 17, "text-anchor": "middle", class: "in"}, name));
  }
  const rows = found.map(span => el("tr", {class: span.leaf ? null : "off"},
    el("td", {class: "n"}, String(span.offset)), el("td", {class: "n"}, String(span.end - span.offset)),
    el("td", {class: "mono"}, span.leaf ? span.leaf.path : "reserved"),
    el("td", {}, span.leaf?.title ?? "",
      span.leaf?.bits.length ? el("div", {class: "chips"}, span.leaf.bits.map(([name, low, width]) =>
        el("span", {}, `${width > 1 ? `${low + width - 1}:${low}` : low} ${name}`))) : null)));
  show("zoom", el("h4", {}, swatch(number), `${number} ${s.c.name}, ${lay.format} format: ${size} bytes at ${s.offset}`),
    picture, el("details", {}, el("summary", {}, `${found.length} fields and gaps, with their bits`),
      el("div", {class: "scroll"}, table(["offset", "size", "field", ""], rows))));
}

function table(heads, rows) {
  const numeric = ["#", "offset", "size", "standard", "compacted"];
  return el("table", {}, el("thead", {}, el("tr", {}, heads.map(head =>
    el("th", {scope: "col", class: numeric.includes(head) ? "n" : null}, head)))), el("tbody", {}, rows));
}

// --- the state of the page, and its link ---------------------------------------------------------

const first = D.models.reduce((best, m) => best.name === "zen4" ? best : m.name === "zen4" ? m : best);
const state = {};

function choose(m) {
  Object.assign(state, {m, xcr0: m.xcr0, xss: m.xss, xcomp: m.xcr0 | m.xss, other: state.other ?? null});
}

const mask = text => /^(0x[0-9a-f]{1,16}|[0-9]{1,19})$/i.test(text ?? "") ? BigInt(text) & ALL : null;

// Whatever stands in a link: names of models, masks, and nothing else.
function fromLink() {
  const said = new URLSearchParams(location.hash.slice(1));
  state.other = MODELS.get(said.get("with")) ?? null;
  choose(MODELS.get(said.get("cpu")) ?? first);
  for (const key of ["xcr0", "xss", "xcomp"]) state[key] = mask(said.get(key)) ?? state[key];
  if (!said.has("xcomp")) state.xcomp = state.xcr0 | state.xss;
  state.xcomp &= ~COMPACTED;
}

function toLink() {
  const said = new URLSearchParams({cpu: state.m.name});
  const {m, xcr0, xss, xcomp} = state;
  if (xcr0 !== m.xcr0) said.set("xcr0", hex(xcr0));
  if (xss !== m.xss) said.set("xss", hex(xss));
  if (xcomp !== (xcr0 | xss)) said.set("xcomp", hex(xcomp | COMPACTED));
  if (state.other) said.set("with", state.other.name);
  history.replaceState(null, "", `#${said}`);
}

// --- the list ------------------------------------------------------------------------------------

const plainly = text => text.toLowerCase().replace(/[-_\s]+/g, " ");

function matches(m, query) {
  return plainly(query).trim().split(" ").every(one => {
    const raw = one.replace(/^0x/, "");
    const eax = m.signatures.some(s => s.eax.some(e => raw.length > 3
      && (e.startsWith(raw) || (raw.startsWith(e) && raw.length <= e.length + 1))));
    return eax || [m.name, m.title, m.vendor, ...m.aliases, ...m.components.flatMap(c => [c.name, c.title])]
      .some(text => plainly(text).includes(one));
  });
}

function list() {
  const query = $("search").value;
  const found = D.models.filter(m => matches(m, query));
  $("found").textContent = query.trim() ? `${found.length} of ${D.models.length}` : `${found.length} models`;
  show("models", found.map(m => el("li", {}, el("button", {type: "button",
    "aria-current": m === state.m ? "true" : null,
    onclick: () => { choose(m); refresh(); document.querySelector("#models [aria-current]")?.focus(); }}, m.name, el("small", {}, m.title)))));
  const chosen = document.querySelector("#models [aria-current]"), box = $("models");
  if (chosen) box.scrollTop = chosen.offsetTop - box.offsetTop - box.clientHeight / 2;
}

// --- the calculator ------------------------------------------------------------------------------

function masks() {
  const {m} = state;
  const rows = [["xcr0", "XCR0", m.user, "user components"],
    ["xss", "IA32_XSS", m.supervisor, "supervisor components"],
    ["xcomp", "XCOMP_BV", m.user | m.supervisor, "what has a place in the compacted format"]];
  show("masks", rows.map(([key, label, known, about]) => {
    const box = el("input", {id: key, spellcheck: "false", autocomplete: "off", "aria-describedby": `why-${key}`,
      onchange: ({target}) => {
        const value = mask(target.value.trim());
        if (value === null) return why(key, "write a number of 64 bits: 0xE7");
        set(key, key === "xcomp" ? value & ~COMPACTED : value);
      }});
    const bits = of(m, known).map(c => el("label", {title: `${c.number}: ${c.title}`},
      el("input", {type: "checkbox", "data-key": key, "data-bit": c.number,
        onchange: ({target}) => set(key, target.checked ? state[key] | c.bit : state[key] & ~c.bit)}), c.name));
    return el("fieldset", {"aria-label": `${label}: ${about}`},
      el("label", {for: key}, label), box, el("div", {class: "bits"}, bits.length ? bits : el("span", {class: "dim"}, "none")),
      el("p", {id: `why-${key}`, class: "why bad", role: "status"}));
  }));
}

function set(key, value) {
  const follows = state.xcomp === (state.xcr0 | state.xss);
  state[key] = value;
  if (key !== "xcomp" && follows) state.xcomp = state.xcr0 | state.xss;
  recalculate();
}

const why = (key, text) => { $(`why-${key}`).textContent = text ?? ""; };

function recalculate() {
  const {m, xcr0, xss, xcomp} = state;
  drawn = fitting().row;
  for (const key of ["xcr0", "xss", "xcomp"]) {
    $(key).value = hex(key === "xcomp" ? state[key] | COMPACTED : state[key]);
    document.querySelectorAll(`[data-key=${key}]`).forEach(box => {
      box.checked = Boolean(state[key] >> BigInt(box.dataset.bit) & 1n);
    });
  }
  const why0 = refusal(m, xcr0), whyX = refusedXss(m, xss), whyC = refusedXcomp(m, xcr0, xss, xcomp);
  why("xcr0", why0 && `No processor takes this XCR0: ${why0}.`);
  why("xss", whyX && `${whyX}.`);
  why("xcomp", whyC);
  const std = layoutOf("standard"), cmp = layoutOf("compacted");
  const part = (id, lay, title, refused) => show(id, el("h4", {}, `${title}: `,
    lay ? el("b", {}, `${lay.size} bytes`) : el("span", {class: "bad"}, refused)),
  lay ? map(lay, title) : null);
  part("standard", std, "Standard format", "no layout for this XCR0");
  part("compacted", cmp, "Compacted format", "no layout for this XCOMP_BV");
  show("zoom");
  components(std, cmp);
  sizes();
  comparison();
  decode();
  toLink();
}

// A layout of the masks that are set; null where there is none. An XCR0 need not be legal.
function layoutOf(format) {
  const {m, xcr0, xcomp} = state;
  if (format === "compacted") return xcomp & ~(m.user | m.supervisor) ? null : compacted(m, xcomp);
  if (xcr0 & ~m.user) return null;
  const lay = standard(m, xcr0);
  return overlap(lay.slots) ? null : lay;
}

function components(std, cmp) {
  const place = (lay, c) => String(lay?.slots.find(s => s.c === c)?.offset ?? "–");
  const rows = state.m.components.map(c => {
    const there = [std, cmp].find(lay => lay?.slots.some(s => s.c === c));
    return el("tr", {class: there ? null : "off"}, el("td", {class: "n"}, String(c.number)),
      el("td", {}, there ? el("button", {type: "button", onclick: () => {
        zoom(there, c.number);
        $("zoom").scrollIntoView({block: "center"});
      }}, swatch(c.number), c.name) : [swatch(c.number), c.name]),
      el("td", {class: "n"}, place(std, c)), el("td", {class: "n"}, place(cmp, c)),
      el("td", {class: "n"}, String(c.size)),
      el("td", {}, [c.supervisor ? "supervisor" : "user", c.align64 && "align64", c.xfd && "xfd",
        c.optional && `in some parts ${c.optional}`].filter(Boolean).join(", ")),
      el("td", {}, c.title));
  });
  $("components").replaceChildren(...table(["#", "component", "standard", "compacted", "size", "", ""], rows).children);
}

// The sets of enabled components that make a compacted area of this size, those that lack least
// in front.
function ofSize(m, every, size) {
  const bits = numbers(every & ~3n), found = [];
  for (let set = 0; set < 2 ** bits.length; set++) {
    const mask = bits.reduce((sum, n, i) => set >> i & 1 ? sum | 1n << BigInt(n) : sum, every & 3n);
    if (compacted(m, mask).size === size) found.push(mask);
  }
  // Sets whose user components could be an XCR0 stand before those that only RFBM makes.
  const lacks = mask => numbers(every & ~mask).length + (refusal(m, mask & m.user) ? 64 : 0);
  return found.sort((a, b) => lacks(a) - lacks(b) || (a < b ? -1 : 1));
}

function sizes() {
  const text = $("size").value.trim(), {m, xcr0, xss} = state, every = (xcr0 | xss) & (m.user | m.supervisor);
  if (!text) return show("sizes");
  const size = /^([0-9]{1,6}|0x[0-9a-f]{1,5})$/i.test(text) ? Number(text) : null;
  const none = size === null ? "Write a number of bytes: 2440, or 0x988."
    : refusedXcomp(m, xcr0, xss, 0n) ?? "No set of what XCR0 and IA32_XSS enable has this size.";
  const found = size === null || refusedXcomp(m, xcr0, xss, 0n) ? [] : ofSize(m, every, size);
  show("sizes", found.length ? null : el("p", {}, none),
    found.slice(0, 6).map(mask => el("p", {}, el("button", {type: "button", class: "mono",
      onclick: () => set("xcomp", mask)}, hex(mask | COMPACTED)), " ",
    every & ~mask ? `all but ${names(m, every & ~mask)}` : "all that is enabled")),
    found.length > 6 ? el("p", {class: "dim"}, `and ${found.length - 6} others`) : null);
}

// --- side by side --------------------------------------------------------------------------------

function strips(a, b, rows) {
  const scale = 896 / Math.max(a.size, b.size), under = HEIGHT + 44;
  const state = new Map(rows.map(row => [row.number, row.state]));
  const picture = sv("svg", {viewBox: `0 0 ${WIDTH} ${under + HEIGHT}`, role: "img",
    "aria-label": `${a.m.name}, ${a.size} bytes, above ${b.m.name}, ${b.size} bytes`,
    onpointermove: ({target}) => target.span && tell(target.span)});
  for (const [lay, y, side] of [[a, 0, "A"], [b, under, "B"]])
    picture.append(sv("text", {x: LEFT - 8, y: y + 17, "text-anchor": "end"}, side), ...draw(spans(lay), lay.size, scale, y));
  for (const s of a.slots) {
    const its = b.slots.find(each => each.c.number === s.c.number);
    const [x, to] = [s.offset, s.end].map(at => part(LEFT + at * scale));
    if (its && state.get(s.c.number) !== "lost") {
      const [left, right] = [its.offset, its.end].map(at => part(LEFT + at * scale));
      picture.append(sv("polygon", {fill: colourOf(s.c.number), "fill-opacity": .35,
        points: `${x},${HEIGHT} ${to},${HEIGHT} ${right},${under} ${left},${under}`}));
    } else picture.append(sv("rect", {class: "lost", x, y: HEIGHT, width: Math.max(1, to - x), height: 6}));
  }
  return picture;
}

function comparison() {
  const {m, other: b, xcr0, xss} = state;
  $("compare").hidden = !b;
  if (!b) return;
  $("compare-title").textContent = `A: ${m.name}  →  B: ${b.name}`;
  const wrong = refusal(m, xcr0) ?? refusedXss(m, xss);
  if (wrong) return show("comparison", el("p", {class: "bad"}, `${m.name} has no guest with these masks: ${wrong}`));
  const rows = compare(m, xcr0 | xss, b, b.xcr0 | b.xss);
  const lossy = rows.filter(row => row.lossy);
  const lost = lossy.filter(row => !row.x.supervisor).map(row => row.name);
  const possible = lossy.filter(row => row.x.supervisor).map(row => row.name);
  const where = c => c ? (c.supervisor ? `${c.size} supervisor` : `${c.size} at ${c.offset}`) : "–";
  const lacks = m.instructions.filter(name => !b.instructions.includes(name));
  const refused = m.mxcsr_mask & ~b.mxcsr_mask;
  show("comparison",
    el("p", {class: lost.length ? "bad" : "good"}, lost.length ? `Lost: ${lost.join(", ")}` : "Nothing is lost."),
    possible.length ? el("p", {}, `Lost too if the guest has enabled them in IA32_XSS: ${possible.join(", ")}`) : null,
    lacks.length ? el("p", {}, `${b.name} lacks ${lacks.join(", ")}.`) : null,
    refused ? el("p", {}, `MXCSR: ${b.name} refuses bits ${hex(refused)} with #GP.`) : null,
    el("h4", {}, "Standard format"), strips(standard(m, xcr0), standard(b, b.xcr0), rows),
    el("h4", {}, "Compacted format"), strips(compacted(m, xcr0 | xss), compacted(b, b.xcr0 | b.xss), rows),
    el("div", {class: "scroll"}, table(["#", "component", "", `A: ${m.name}`, `B: ${b.name}`], rows.map(row =>
      el("tr", {class: row.lossy ? "bad" : null}, el("td", {class: "n"}, String(row.number)),
        el("td", {}, swatch(row.number), row.name), el("td", {}, row.state),
        el("td", {}, where(row.x)), el("td", {}, where(row.y)))))));
}

// --- an area that is dropped or pasted -----------------------------------------------------------

let area = null, trouble = "";
const MOST = 8; // other models that are named

const MAGIC = [["7f454c46", "an ELF file"], ["4d444d50", "a minidump"], ["5145564d", "a QEMU stream"],
  ["1f8b", "packed by gzip"], ["28b52ffd", "packed by zstd"], ["fd377a585a", "packed by xz"]];

function take(bytes) {
  area = null;
  const magic = MAGIC.find(([start]) => digits(bytes.slice(0, start.length / 2).reverse()) === start);
  const short = bytes.length >= D.extended + D.fsave + 8
    && Number(word(bytes, D.fsave + D.xcr0) & 0xFFFFFFFFn) === D.signal.magic1;
  const kind = magic ? magic[1] : short ? "a 32-bit signal frame" : null;
  trouble = kind ? `This is ${kind}, and no bare area: xsaveschema decode FILE reads it.`
    : bytes.length < D.extended ? `${bytes.length} bytes; the legacy region and the header alone take ${D.extended}.`
    : bytes.length > D.max_area ? "too long for an area" : "";
  if (!trouble) area = bytes;
  decode();
  const doubt = document.querySelector("#decoded .bad");
  $("readout").textContent = trouble || [doubt, $("in-use")].filter(Boolean).map(each => each.textContent).join(" – ");
}

async function takeFile(file) {
  if (file.size > D.max_area) { trouble = "The file is too long for a bare area: xsaveschema decode FILE."; area = null; return decode(); }
  take(new Uint8Array(await file.arrayBuffer()));
}

function decode() {
  if (!area) return show("decoded", trouble ? el("p", {class: "bad"}, trouble) : null);
  const {m} = state, told = judge(m, area), {lay, xstate, xcomp} = told;
  const {against, hints} = evidence(m, area), faults = [...told.faults, ...against];
  const fits = o => !judge(o, area).faults.length && !Object.values(evidence(o, area)).flat().length;
  const others = faults.length || hints.length
    ? D.models.filter(fits).sort((a, b) => b.popularity - a.popularity) : [];
  const fields = values(area, told), inUse = xstate & lay.mask;
  const rows = registers(m, fields).filter(r => r.live).map(r => el("tr", {}, el("td", {}, r.name),
    el("td", {class: "value"}, el("div", {}, shown(r)))));
  show("decoded",
    el("h4", {}, `${area.length} bytes, read as ${m.name} writes them: ${lay.format} format`),
    faults.map(fault => el("p", {class: "bad fault"}, fault)),
    against.length ? null : hints.map(hint => el("p", {class: "bad hint"}, hint)),
    others.length ? el("p", {id: "fitting"}, `${m.name} may not have written this; without such a doubt fit: `,
      others.slice(0, MOST).flatMap(o => [el("button", {type: "button", onclick: () => { choose(o); refresh(); }}, o.name), " "]),
      others.length > MOST ? `and ${others.length - MOST} others` : null) : null,
    told.restore.map(rule => el("p", {class: "bad restore"}, `A restore faults. ${rule}`)),
    el("p", {class: "mono"}, `XSTATE_BV ${hex(xstate)}, XCOMP_BV ${hex(xcomp)}`),
    el("p", {id: "in-use"}, `In use: ${names(m, inUse) || "nothing"}. `,
      el("span", {class: "dim"}, `Initial: ${names(m, lay.mask & ~inUse) || "nothing"}.`)),
    told.cutOff ? el("p", {class: "bad"}, `Live, not in this area: ${told.cutOff}`) : null,
    map(lay, "The area", inUse),
    el("div", {class: "scroll"}, table(["register", "value as it is stored"], rows)));
}

// --- all together --------------------------------------------------------------------------------

// Numbers in hexadecimal, those that follow one another as a range.
function ranges(given) {
  const found = [];
  for (const n of [...new Set(given)].sort((a, b) => a - b)) {
    if (n === found.at(-1)?.[1] + 1) found.at(-1)[1] = n;
    else found.push([n, n]);
  }
  return found.map(([low, high]) => [...new Set([low, high])].map(n => hex(BigInt(n))).join("–")).join(", ");
}

function refresh() {
  const {m} = state;
  document.title = `${m.name} – XSAVE atlas`;
  $("name").textContent = m.name;
  const families = new Map();
  for (const {family, models, steppings} of m.signatures) {
    const key = `family ${hex(BigInt(family))} model # ${steppings ? `stepping ${ranges(steppings)}` : ""}`;
    families.set(key, [...families.get(key) ?? [], ...models]);
  }
  const signatures = [...families].map(([key, models]) => key.replace("#", ranges(models)).trim());
  $("facts").textContent = [m.title, m.vendor, ...signatures, m.aliases.length ? `also ${m.aliases.join(", ")}` : "",
    m.instructions.join(" "), m.confirmed ? "confirmed by a CPUID dump" : ""].filter(Boolean).join(" · ");
  show("notes", m.confirmed ? null : el("p", {class: "bad"}, "No CPUID dump of a real CPU confirms this layout."));
  $("with").replaceChildren(el("option", {value: ""}, "nothing"),
    ...D.models.map(each => el("option", {value: each.name}, each.name)));
  $("with").value = state.other?.name ?? "";
  masks();
  list();
  recalculate();
}

document.body.append(patterns());
$("search").addEventListener("input", list);
$("search").addEventListener("keydown", event => {
  if (event.key === "Enter") document.querySelector("#models button")?.click();
  if (event.key === "ArrowDown") document.querySelector("#models button")?.focus();
});
$("models").addEventListener("keydown", event => {
  const step = {ArrowDown: "nextElementSibling", ArrowUp: "previousElementSibling"}[event.key];
  if (!step) return;
  event.preventDefault();
  (event.target.closest("li")?.[step]?.firstChild ?? $("search")).focus();
});
$("reset").addEventListener("click", () => { choose(state.m); recalculate(); });
$("copy").addEventListener("click", async () => {
  try {
    await navigator.clipboard.writeText(location.href);
    $("readout").textContent = "The link is copied.";
  } catch { $("readout").textContent = location.href; }
});
$("size").addEventListener("input", sizes);
$("with").addEventListener("change", ({target}) => { state.other = MODELS.get(target.value) ?? null; comparison(); toLink(); });
$("hex").addEventListener("input", ({target}) => {
  area = null;
  trouble = "";
  if (!target.value.trim()) return decode();
  try { take(fromHex(target.value)); } catch (error) { trouble = error.message; decode(); }
});
$("file").addEventListener("change", ({target}) => target.files[0] && takeFile(target.files[0]));
addEventListener("dragover", event => { event.preventDefault(); document.body.classList.add("drop"); });
addEventListener("dragleave", () => document.body.classList.remove("drop"));
addEventListener("drop", event => {
  event.preventDefault();
  document.body.classList.remove("drop");
  if (event.dataTransfer.files[0]) takeFile(event.dataTransfer.files[0]).then(() => $("area").scrollIntoView());
});
addEventListener("hashchange", () => { fromLink(); refresh(); });
let drawn = 0;
addEventListener("resize", () => {
  if (drawn === fitting().row) return;
  const kept = [...$("zoom").childNodes]; // a phone that is turned shows the same component still
  recalculate();
  show("zoom", kept);
});
fromLink();
refresh();

// What a test, or a person at the console, may ask.
window.atlas = Object.freeze({
  standard: (name, mask) => asked(standard(MODELS.get(name), BigInt(mask))),
  compacted: (name, mask) => asked(compacted(MODELS.get(name), BigInt(mask))),
  refusal: (name, mask) => refusal(MODELS.get(name), BigInt(mask)),
  ofSize: (name, size) => {
    const m = MODELS.get(name);
    return ofSize(m, m.xcr0 | m.xss, size).map(hex);
  },
  compare: (a, b) => {
    const [x, y] = [MODELS.get(a), MODELS.get(b)];
    return compare(x, x.xcr0 | x.xss, y, y.xcr0 | y.xss).map(row => [row.name, row.state, row.lossy]);
  },
  read: (name, text) => {
    const m = MODELS.get(name), bytes = fromHex(text), told = judge(m, bytes);
    return {format: told.lay.format, mask: hex(told.lay.mask), faults: told.faults, restore: told.restore, ...evidence(m, bytes),
      registers: registers(m, values(bytes, told)).map(r => [r.name, shown(r)])};
  },
});

function asked(lay) {
  return {size: lay.size, slots: lay.slots.map(s => [s.c.name, s.offset, s.end]),
    spans: spans(lay).map(s => [s.offset, s.end, s.kind, s.path, String(s.alive), says(s)])};
}
})();

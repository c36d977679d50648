import { ConnectionViolation } from './connection-violation.js';
import { errorCode } from '../../http2-error-code.js';

/**
 * Code lengths in bits of the 256 octets and EOS (RFC 7541 Appendix B). The codes follow from the lengths, because they
 * are canonical: assigned in ascending order of length, then of octet.
 */
const codeLengths: readonly number[] = [
  13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28,
  28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
  13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6, 5, 6,
  5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23,
  22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20, 22, 22,
  23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23, 26, 26,
  20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27,
  27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27,
  27, 27, 27, 26, 30,
];
const endOfString = 256;
const longestCode = 30;

/**
 * One row for each inner node of the code tree, with 16 steps: the node after the next four bits, and the octet that
 * they complete (at most one, because no code is shorter than five bits). -1: none.
 */
type Steps = { readonly nextNode: Int16Array; readonly octet: Int16Array; readonly mayEnd: Uint8Array };
const steps = buildSteps();

/** Decodes `bytes` from `start` to `end`. Throws a COMPRESSION_ERROR violation if they are not a Huffman string. */
export function decodeHuffman(bytes: Buffer, start: number, end: number): string {
  const { nextNode, octet, mayEnd } = steps;
  // At most eight bits for each five.
  const decoded = Buffer.allocUnsafe(Math.ceil(((end - start) * 8) / 5));
  let length = 0;
  let node = 0;
  for (let at = start; at < end; at++) {
    const byte = bytes[at]!;
    for (const nibble of [byte >> 4, byte & 15]) {
      const step = node * 16 + nibble;
      node = nextNode[step]!;
      if (node < 0) throw broken('EOS inside a string');
      const completed = octet[step]!;
      if (completed >= 0) decoded[length++] = completed;
    }
  }
  if (mayEnd[node] === 0) throw broken('padding that is no prefix of EOS, or a whole byte of it');
  return decoded.toString('latin1', 0, length);
}

function broken(detail: string): ConnectionViolation {
  return new ConnectionViolation({ code: errorCode.compressionError, detail: `Huffman code: ${detail}` });
}

type Node = { children: [Node | null, Node | null]; octet: number; id: number };

function buildSteps(): Steps {
  const inner: Node[] = [];
  const makeNode = (): Node => ({ children: [null, null], octet: -1, id: -1 });
  const root = makeNode();
  let code = 0;
  for (let length = 1; length <= longestCode; length++) {
    code *= 2;
    for (const [octet, codeLength] of codeLengths.entries()) {
      if (codeLength !== length) continue;
      insert(root, code, length, octet);
      code += 1;
    }
  }
  const visit = (node: Node): void => {
    if (node.octet >= 0) return;
    node.id = inner.push(node) - 1;
    for (const child of node.children) if (child !== null) visit(child);
  };
  visit(root);
  const nextNode = new Int16Array(inner.length * 16).fill(-1);
  const octet = new Int16Array(inner.length * 16).fill(-1);
  for (const node of inner) {
    for (let nibble = 0; nibble < 16; nibble++) walk(node, nibble, { root, nextNode, octet });
  }
  return { nextNode, octet, mayEnd: endings(root, inner.length) };

  function insert(from: Node, bits: number, length: number, octet: number): void {
    let node = from;
    for (let shift = length - 1; shift >= 0; shift--) {
      const bit = (bits >>> shift) & 1;
      node = node.children[bit as 0 | 1] ??= makeNode();
    }
    node.octet = octet;
  }
}

function walk(
  from: Node,
  nibble: number,
  table: { readonly root: Node; readonly nextNode: Int16Array; readonly octet: Int16Array },
): void {
  const step = from.id * 16 + nibble;
  let node = from;
  for (let shift = 3; shift >= 0; shift--) {
    const next = node.children[((nibble >> shift) & 1) as 0 | 1];
    if (next === null || next.octet === endOfString) return;
    node = next;
    if (node.octet < 0) continue;
    table.octet[step] = node.octet;
    node = table.root;
  }
  table.nextNode[step] = node.id;
}

/** A string may end between two octets, or within up to seven bits of EOS, which are all ones (RFC 7541 §5.2). */
function endings(root: Node, nodes: number): Uint8Array {
  const mayEnd = new Uint8Array(nodes);
  let node: Node | null = root;
  for (let depth = 0; depth <= 7 && node !== null; depth++) {
    mayEnd[node.id] = 1;
    node = node.children[1];
  }
  return mayEnd;
}

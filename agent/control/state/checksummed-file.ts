import { createHash } from 'node:crypto';
import { StateFile } from './state-file.js';

const format = 'culvert-state';
const version = 1;

/** One JSON value in a {@link StateFile}. The first line carries the SHA-256 of the rest. */
export class ChecksummedFile<T> extends StateFile<T> {
  /** `parse` checks the shape of what was read and throws if it is wrong. */
  constructor(init: { readonly path: string; readonly parse: (value: unknown) => T }) {
    super({ path: init.path, encode, decode: (bytes) => init.parse(decode(bytes.toString('utf8'))) });
  }
}

function encode(value: unknown): string {
  const body = JSON.stringify(value);
  const header = { format, version, sha256: sha256(body) };
  return `${JSON.stringify(header)}\n${body}\n`;
}

function decode(text: string): unknown {
  const end = text.indexOf('\n');
  const header: unknown = JSON.parse(end < 0 ? text : text.slice(0, end));
  const body = text.slice(end + 1, -1);
  if (typeof header !== 'object' || header === null) throw new Error('the header is missing');
  const { format: foundFormat, version: foundVersion, sha256: expected } = header as Record<string, unknown>;
  if (foundFormat !== format || foundVersion !== version) throw new Error('it is not a state file of this version');
  if (end < 0 || !text.endsWith('\n') || sha256(body) !== expected) throw new Error('the checksum does not match');
  return JSON.parse(body);
}

function sha256(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}

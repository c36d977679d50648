import { createHash } from 'node:crypto';

const digestLength = 64;

/** Encodes a record as a line: `<sha256 of the JSON, hex> <JSON>\n`. */
export function encodeLine(record: unknown): Buffer {
  const json = JSON.stringify(record);
  return Buffer.from(`${digest(json)} ${json}\n`);
}

/** The JSON value of a line without its newline; undefined when the line is damaged. */
function decodeLine(line: string): unknown {
  const json = line.slice(digestLength + 1);
  if (line[digestLength] !== ' ' || digest(json) !== line.slice(0, digestLength)) return undefined;
  return JSON.parse(json) as unknown;
}

export type PlayedLines =
  /** `validBytes` is the end of the last complete record. */
  | { readonly ok: true; readonly records: number; readonly validBytes: number }
  | { readonly ok: false; readonly problem: string };

/**
 * Reads a file of records. A crash in the middle of a write leaves a damaged last line. It was never acknowledged, so
 * `validBytes` ends before it. Damage anywhere else means that the disk lost data, and nothing in the file may be used.
 * `take` returns false for a record that does not follow the one before it.
 */
export function playLines(bytes: Buffer, take: (record: unknown, bytes: number) => boolean): PlayedLines {
  let records = 0;
  let offset = 0;
  while (offset < bytes.length) {
    const end = bytes.indexOf(0x0a, offset);
    const record = end < 0 ? undefined : decodeLine(bytes.toString('utf8', offset, end));
    if (record === undefined) {
      if (end < 0 || end === bytes.length - 1) break;
      return { ok: false, problem: `record ${records + 1} at byte ${offset} is damaged` };
    }
    if (!take(record, end + 1 - offset)) {
      return { ok: false, problem: `record ${records + 1} does not follow the one before it` };
    }
    records += 1;
    offset = end + 1;
  }
  return { ok: true, records, validBytes: offset };
}

/** Every line of a damaged file: its record, or undefined where the line is damaged. */
export function* linesOf(bytes: Buffer): Generator {
  for (let offset = 0; offset < bytes.length;) {
    const end = bytes.indexOf(0x0a, offset);
    if (end < 0) return;
    yield decodeLine(bytes.toString('utf8', offset, end));
    offset = end + 1;
  }
}

function digest(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}

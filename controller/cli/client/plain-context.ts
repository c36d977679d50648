/**
 * Reads a context file that is JSON or has the layout that `culvert-controller` writes: a line per field, and the PEM as
 * an indented block. Returns undefined for any other text, which then needs the YAML library; loading that takes longer
 * than most commands.
 */
export function readPlainContext(text: string): unknown {
  if (text.startsWith('{')) return tryJson(text);
  const fields: Record<string, string> = {};
  let block: string | null = null;
  for (const line of withoutLastNewline(text).split('\n')) {
    const indented: string | undefined = /^ {2}([\x21-\x7e][\x20-\x7e]*)$/.exec(line)?.[1];
    if (block !== null && indented !== undefined) {
      fields[block] += `${indented}\n`;
      continue;
    }
    const [, name = '', value = ''] = /^([a-z][A-Za-z]*): (\||[a-z]+:\/\/[\w.:[\]-]+|[\w-]{32,})$/.exec(line) ?? [];
    if (name === '' || name in fields || isAmbiguous(value)) return undefined;
    block = value === '|' ? name : null;
    fields[name] = block === null ? value : '';
  }
  return fields;
}

/** Whether YAML may read the value as a number (core schema, YAML 1.2.2 §10.3.2) or as an indicator. */
function isAmbiguous(value: string): boolean {
  return /^[-\d]/.test(value);
}

function withoutLastNewline(text: string): string {
  return text.endsWith('\n') ? text.slice(0, -1) : text;
}

function tryJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

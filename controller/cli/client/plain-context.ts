/**
 * Reads a context file that is JSON, or laid out as `culvert-controller` writes it: a line for each field, and the PEM
 * as an indented block. Undefined for every other text, which a YAML reader then has to understand: loading one takes
 * longer than most commands.
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
    if (name === '' || name in fields || isNoText(value)) return undefined;
    block = value === '|' ? name : null;
    fields[name] = block === null ? value : '';
  }
  return fields;
}

/** What YAML may take for a number (core schema, YAML 1.2.2 §10.3.2), or what begins with a sign of its own. */
function isNoText(value: string): boolean {
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

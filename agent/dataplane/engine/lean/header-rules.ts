/** A header section by name. Fields with the same name are joined with commas (RFC 9110 §5.3). Has no prototype. */
export type HeaderMap = Readonly<Record<string, string | undefined>>;

/** A header section, or why it is malformed (RFC 9113 §8.1.1): a stream error PROTOCOL_ERROR. */
export type JudgedHeaders =
  | { readonly isMalformed: false; readonly headers: HeaderMap }
  | { readonly isMalformed: true; readonly detail: string };

/** RFC 9113 §8.3. `:protocol` (RFC 8441) is only allowed after a setting that we never send. */
const requestFields: ReadonlySet<string> = new Set([':method', ':scheme', ':authority', ':path']);
const responseFields: ReadonlySet<string> = new Set([':status']);
const trailerFields: ReadonlySet<string> = new Set();

/** RFC 9113 §8.2.2. */
const connectionFields: ReadonlySet<string> = new Set([
  'connection',
  'proxy-connection',
  'keep-alive',
  'transfer-encoding',
  'upgrade',
]);

/**
 * A request: CONNECT has only `:method` and `:authority` (§8.5), others have `:method`, `:scheme` and `:path` (§8.3.1).
 */
export function judgeRequest(fields: readonly string[]): JudgedHeaders {
  const judged = judgeFields(fields, requestFields);
  if (judged.isMalformed) return judged;
  const { headers } = judged;
  const method = headers[':method'];
  if (method === undefined || method === '') return malformed('a request without :method');
  if (method === 'CONNECT') {
    if (headers[':scheme'] !== undefined || headers[':path'] !== undefined) {
      return malformed('a CONNECT with :scheme or :path');
    }
    return headers[':authority'] === undefined ? malformed('a CONNECT without :authority') : judged;
  }
  if (headers[':scheme'] === undefined) return malformed('a request without :scheme');
  return (headers[':path'] ?? '') === '' ? malformed('a request without :path') : judged;
}

/** A response: one `:status` of three digits, except 101, which does not exist in HTTP/2 (§8.3.2, §8.6). */
export function judgeResponse(fields: readonly string[]): JudgedHeaders {
  const judged = judgeFields(fields, responseFields);
  if (judged.isMalformed) return judged;
  const status = judged.headers[':status'] ?? '';
  if (!/^[1-9][0-9][0-9]$/.test(status)) return malformed('a response without a :status');
  return status === '101' ? malformed('status 101') : judged;
}

/** Fields after the content: no pseudo-header fields (§8.1). */
export function judgeTrailers(fields: readonly string[]): JudgedHeaders {
  return judgeFields(fields, trailerFields);
}

function judgeFields(fields: readonly string[], pseudoFields: ReadonlySet<string>): JudgedHeaders {
  const headers = Object.create(null) as Record<string, string | undefined>;
  let isRegular = false;
  for (let at = 0; at < fields.length; at += 2) {
    const name = fields[at]!;
    const value = fields[at + 1]!;
    if (name.startsWith(':')) {
      if (isRegular) return malformed('a pseudo-header field after a regular field');
      if (!pseudoFields.has(name)) return malformed(`${printable(name)} where it does not belong`);
      if (headers[name] !== undefined) return malformed(`${name} twice`);
    } else {
      isRegular = true;
      if (!isFieldName(name)) return malformed(`the field name ${printable(name)}`);
      if (connectionFields.has(name) || (name === 'te' && value !== 'trailers')) {
        return malformed(`${name}, which does not exist in HTTP/2`);
      }
    }
    if (!isFieldValue(value)) return malformed(`the value of ${name}`);
    const before = headers[name];
    headers[name] = before === undefined ? value : `${before}, ${value}`;
  }
  return { isMalformed: false, headers };
}

/** Not empty, and without octets 0x00–0x20, upper case, a colon, 0x7f–0xff (§8.2.1). */
function isFieldName(name: string): boolean {
  for (let at = 0; at < name.length; at++) {
    const octet = name.charCodeAt(at);
    if (octet <= 0x20 || octet >= 0x7f || octet === 0x3a || (octet >= 0x41 && octet <= 0x5a)) return false;
  }
  return name.length > 0;
}

/** Without NUL, CR and LF, and without leading or trailing white space (§8.2.1). */
function isFieldValue(value: string): boolean {
  for (let at = 0; at < value.length; at++) {
    const octet = value.charCodeAt(at);
    if (octet === 0 || octet === 0x0a || octet === 0x0d) return false;
  }
  return value === '' || (!isBlank(value.charCodeAt(0)) && !isBlank(value.charCodeAt(value.length - 1)));
}

function isBlank(octet: number): boolean {
  return octet === 0x20 || octet === 0x09;
}

/** Makes a peer's text safe for a log line: no control characters, and limited in length. */
function printable(text: string): string {
  return JSON.stringify(text.slice(0, 32).replaceAll(/[^\x20-\x7e]/g, '?'));
}

function malformed(detail: string): JudgedHeaders {
  return { isMalformed: true, detail };
}

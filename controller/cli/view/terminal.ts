/**
 * What the standard output can show. The program sets it once, when it starts on a terminal; everything else is text for
 * files, pipes and tests: not shortened and without colours.
 */
export type Terminal = { readonly columns: number | null; readonly hasColours: boolean };

let terminal: Terminal = { columns: null, hasColours: false };

export function useTerminal(found: Terminal): void {
  terminal = found;
}

export function terminalColumns(): number | null {
  return terminal.columns;
}

/** Colours by NO_COLOR (no-color.org) and TERM; null columns where the output is no terminal. */
export function terminalOf(
  stream: { readonly isTTY?: boolean; readonly columns?: number },
  env: Readonly<Record<string, string | undefined>>,
): Terminal {
  if (stream.isTTY !== true) return { columns: null, hasColours: false };
  const { NO_COLOR: noColour = '', TERM: term = '' } = env;
  return { columns: stream.columns ?? 80, hasColours: noColour === '' && term !== 'dumb' };
}

const codes = { red: 31, green: 32, yellow: 33 } as const;
export type Colour = keyof typeof codes;

export function paint(text: string, colour: Colour | undefined): string {
  return colour === undefined || !terminal.hasColours ? text : `\u001B[${codes[colour]}m${text}\u001B[0m`;
}

import type { Argument, Command, Option } from 'commander';
import { CulvertError } from '../errors.js';

/** PATH_MAX of Linux; no name or address is longer. */
const maxBytes = 4096;

/**
 * Makes every option and argument of a command and of those below it refuse a text that cannot name anything: an empty one
 * (of a variable that is not set, for example), one that is not UTF-8, and one that is too long. Throws CulvertError `USAGE`
 * while the command line is read.
 */
export function refuseUnusableTexts(command: Command): void {
  for (const option of command.options) if (option.required || option.optional) refuseIn(option, option.flags);
  for (const argument of command.registeredArguments) refuseIn(argument, argument.name());
  for (const child of command.commands) refuseUnusableTexts(child);
}

function refuseIn(target: Option | Argument, name: string): void {
  const parse = target.parseArg?.bind(target);
  const { variadic, defaultValue } = target;
  target.argParser((text: string, previous: unknown): unknown => {
    assertUsable(name, text);
    if (parse !== undefined) return parse(text, previous);
    if (!variadic) return text;
    return Array.isArray(previous) && previous !== defaultValue ? [...(previous as unknown[]), text] : [text];
  });
}

function assertUsable(name: string, text: string): void {
  const [problem, hint] =
    text.trim() === ''
      ? ['is empty', 'write what it names, or leave it out']
      : text.includes('\uFFFD')
        ? ['is not UTF-8 text', 'write it in UTF-8']
        : Buffer.byteLength(text) > maxBytes
          ? [`is longer than ${maxBytes} bytes`, 'shorten it']
          : [];
  if (problem === undefined) return;
  throw new CulvertError({ code: 'USAGE', message: `${name} ${problem}`, ...(hint === undefined ? {} : { hint }) });
}

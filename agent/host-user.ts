import { readFileSync } from 'node:fs';
import { CulvertError } from '../shared/errors.js';
import type { HostUser } from './native/helper.js';

/** A name of /etc/passwd, `UID` or `UID:GID`. Throws `USER_MISSING`. */
export function findUser(text: string, passwd: () => string = () => readFileSync('/etc/passwd', 'utf8')): HostUser {
  const numbers = /^(\d{1,9})(?::(\d{1,9}))?$/.exec(text);
  const found =
    numbers === null
      ? passwd()
          .split('\n')
          .map((line) => line.split(':'))
          .find(([name]) => name === text)
          ?.slice(2, 4)
      : [numbers[1], numbers[2] ?? numbers[1]];
  const [uid, gid] = (found ?? []).map(Number);
  if (uid === undefined || gid === undefined || !(uid > 0) || !(gid > 0)) {
    throw new CulvertError({
      code: 'USER_MISSING',
      message: `the agent would run as the user ${text}, which ${found === undefined ? 'this host does not have' : 'is root'}`,
      hint: 'useradd --system --no-create-home --shell /usr/sbin/nologin culvert-agent, or name another one with --user',
    });
  }
  return { uid, gid };
}

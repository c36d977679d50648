import assert from 'node:assert/strict';
import { test } from 'node:test';
import { unreadableToken } from '../../../../agent/control/join/membership.js';

const path = '/etc/culvert/token';

function errorWith(code: string): NodeJS.ErrnoException {
  return Object.assign(new Error(code), { code });
}

test('a token of root that the user of the agent may not read is named with the command that gives it away', () => {
  const forbidden = { problem: 'no permission', cause: errorWith('EACCES') };
  const ofUser = unreadableToken(path, forbidden, 990);
  assert.equal(ofUser.code, 'TOKEN_UNREADABLE');
  assert.match(ofUser.hint ?? '', /^give the file to the user of the agent, chown 990 \/etc\/culvert\/token/);
  const missing = { problem: 'there is no such file', cause: errorWith('ENOENT') };
  for (const error of [unreadableToken(path, missing, 990), unreadableToken(path, forbidden, 0)]) {
    assert.match(error.hint ?? '', /--token-file/);
  }
});

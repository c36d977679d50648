import assert from 'node:assert/strict';
import { test } from 'node:test';
import { listenersOn } from '../../../../../agent/dataplane/pool/port-holder.js';

const tcp = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:3A99 00000000:0000 0A 00000000:00000000 00:00000000 00000000 65534        0 4711 1 0000000000000000 100 0 0 10 0
   1: 00000000:3A9E 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4712 1 0000000000000000 100 0 0 10 0
   2: 0100007F:3A99 0100007F:8222 01 00000000:00000000 00:00000000 00000000  1000        0 4713 1 0000000000000000 20 4 30 10 -1
`;
const tcp6 = `  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000000000000000000000000000:3AA0 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     7        0 4714 1 0000000000000000 100 0 0 10 0
`;

test('the sockets that listen on a port are found with their users, of both families', () => {
  assert.deepEqual(listenersOn(15001, tcp), [{ uid: 65534, socketInode: '4711' }]);
  assert.deepEqual(listenersOn(15006, tcp), [{ uid: 0, socketInode: '4712' }]);
  assert.deepEqual(listenersOn(15008, tcp6), [{ uid: 7, socketInode: '4714' }]);
  assert.deepEqual(listenersOn(15008, tcp), []);
  assert.deepEqual(listenersOn(15001, ''), []);
});

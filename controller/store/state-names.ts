import type { OwnNames } from '../../shared/private-state.js';

/** What the controller makes in its state directory. */
export const namesInControllerState: OwnNames = {
  names: [
    'admin.yaml',
    'audit',
    'ca',
    'controller.lock',
    'inventory.log',
    'journal.log',
    'nats',
    'nodes.json',
    'placements.json',
    'recent-flows.json',
    'signing-key.json',
    'spiffe-bundle.json',
    'state-id',
    'tokens.json',
    'trust-domain',
    'users.json',
  ],
  marks: ['trust-domain', 'signing-key.json'],
};

import { transportKinds } from '../support/tunnel/transport-pair.js';
import { runTransportContract } from './transport-contract.js';

for (const near of transportKinds) for (const far of transportKinds) runTransportContract(near, far);

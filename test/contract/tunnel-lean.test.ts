import { runTunnelHostileContract } from './tunnel-hostile-contract.js';
import { runTunnelContract } from './tunnel-contract.js';
import { leanEngine } from '../support/tunnel/tunnel-lean-engine.js';
import { runTunnelLifetimeContract } from './tunnel-lifetime-contract.js';
import { runTunnelRotationContract } from './tunnel-rotation-contract.js';

runTunnelContract(leanEngine);
runTunnelHostileContract(leanEngine);
runTunnelLifetimeContract(leanEngine);
runTunnelRotationContract(leanEngine);

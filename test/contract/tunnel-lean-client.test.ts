import { runTunnelContract } from './tunnel-contract.js';
import { leanClientEngine } from './tunnel-lean-engine.js';
import { runTunnelLifetimeContract } from './tunnel-lifetime-contract.js';

runTunnelContract(leanClientEngine);
runTunnelLifetimeContract(leanClientEngine);

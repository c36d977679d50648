import { runTunnelContract } from './tunnel-contract.js';
import { leanServerEngine } from './tunnel-lean-engine.js';
import { runTunnelLifetimeContract } from './tunnel-lifetime-contract.js';
import { runTunnelRotationContract } from './tunnel-rotation-contract.js';

runTunnelContract(leanServerEngine);
runTunnelLifetimeContract(leanServerEngine);
runTunnelRotationContract(leanServerEngine);
